"""The MSM's decisions (paper, section 3.3): which groups this host is in, with which keys. Sans-I/O.

    JoinGroup  -> OpenGroup (IGMP) -> GroupOpened -> Authorizer.register -> keys installed -> Answer
                  (first, where members of the group serve joins: one of them; `distributing.py` is that one's side)
    updates, beacons, time -> `membership.py` -> keys, roster, switches for the packet path
    everything else -> passed on to Authorizer or directory, with what this host accepts checked on the way

Which Authorizer may key which addresses is the host's own list (RFC 5374's GPAD), never an announcement's word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from mcsa import subjects
from mcsa.addresses import SOURCE_SPECIFIC_OF
from mcsa.conference_id import conference_id_of
from mcsa.endpoint import Answer, Answered, Count, Failed, Published, Refuse, Request, Requested, Woken
from mcsa.errors import Refused, Rejected
from mcsa.membership import Membership
from mcsa.send_only import SendOnlyGroup
from mcsa.v1 import authorizer_pb2 as authorizer_wire
from mcsa.v1 import msm_pb2 as wire
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.agency import RegisteringAgent
from services.msm.core_groups import Repairing, Unanswered
from services.msm.core_joining import MsmJoining, Registering
from services.msm.distributing import Renewing
from services.msm.events import (
    ClockSet,
    GroupFailed,
    GroupMessage,
    GroupOpened,
    NetworkChanged,
    SequenceLow,
    SourceForged,
    UnknownEpochSeen,
)
from services.msm.reports import Reporting
from services.msm.sending_only import LeavingSender, RegisteringSender, RenewingSender


@dataclass(frozen=True, slots=True)
class _Passed:
    """A request passed on to Authorizer or directory."""

    token: object
    answer: Callable[[Any], Message]


class MsmCore(MsmJoining):
    """See the module. How it joins and what it has of each group: `core_joining.py`, `core_groups.py`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._verbs: dict[str, Callable[[Requested, float], list[Any]]] = {
            "list-sessions": self._sessions.list_sessions,
            "create-session": self._create_session,
            "announce-session": self._announcing.announce,
            "withdraw-session": self._announcing.withdraw,
            "prepare-join": self._prepared.prepare,
            "join-group": self._join_group,
            "open-sending": self.sending_only.open,
            "end-sending": self.sending_only.end,
            "leave-group": self._leave_group,
            "evict-member": self._evict_member,
            "move-session": self._move_session,
            "fetch-certificate": self._fetch_certificate,
            "countersign-record": self._countersign_record,
            "describe-groups": self._describe_groups,
        }

    # ---- the core's interface

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `mcsa.endpoint.Core`."""
        changed = isinstance(event, NetworkChanged)
        effects = self._network_changed(event, now) if changed else self._decide(event, now)
        return effects + self._distributing.settle(self.memberships, now)

    def _decide(self, event: Any, now: float) -> list[Any]:
        match event:
            case Requested(group_id=group_id) if group_id:
                return self._distributing.asked(event, self.memberships.get(group_id), now)
            case Requested():
                return self._requested(event, now)
            case Answered():
                return self._answered(event, now)
            case Failed():
                return self._failed(event, now)
            case GroupOpened():
                return self._group_opened(event, now)
            case GroupFailed():
                return self._not_opened(event, now)
            case GroupMessage():
                return self._group_message(event, now)
            case UnknownEpochSeen() | ClockSet():
                return self._noticed(event, now)
            case SequenceLow():
                return self._sequence_low(event.group_id, now)
            case SourceForged():
                return self._source_forged(event, now)
            case Woken():
                return self._woken(now)
            case Published():
                return []
        raise TypeError(event)

    def reauthorise(self, request: Requested, now: float) -> None:
        """Only this host's own CSM asks; what it was told once it may be told again. And newcomers."""
        if request.group_id:
            self._distributing.check(request, self.memberships.get(request.group_id), now)
        else:
            self._check_caller(request)

    def wake_at(self) -> float | None:
        """See `mcsa.endpoint.Core`."""
        times = [membership.wake_at() for membership in self._all_memberships()]
        times += [agency.wake_at() for agency in self._agencies.values()]
        times += [each.wake_at() for each in (self._distributing, self._distributing.reports)]
        times += [self._announcing.wake_at(), self.sending_only.wake_at()]
        return min((at for at in times if at is not None), default=None)

    # ---- requests of the CSM

    def _requested(self, request: Requested, now: float) -> list[Any]:
        try:
            self._check_caller(request)
            return self._verbs[request.verb](request, now)
        except Refused as refused:
            return [Refuse(request.token, refused)]

    def _check_caller(self, request: Requested) -> None:
        if request.caller.id != self.credentials.id:
            raise Refused("not-allowed", "own-host-only", "an MSM works for the CSM of its own host only")

    def _pass_on(
        self, request: Requested, verb: str, serving: str, message: Message, answer: Callable[[Any], Message]
    ) -> list[Any]:
        token = _Passed(request.token, answer)
        return [
            Request(subjects.AUTHORIZER, verb, message, serving, token, traceparent=request.traceparent),
        ]

    def _create_session(self, request: Requested, now: float) -> list[Any]:
        message = request.message
        description = self._sessions.open_description(message.description, now)
        serving = self._gpad.serving_all(description.authorizer, [group.address for group in description.groups])
        sends_from = self._sends_from(description.groups)

        def answer(created: authorizer_wire.CreateResponse) -> Message:
            return self._sessions.created(description, serving, created, self._origin, now)

        def create(in_use: list[str]) -> list[Any]:
            asked = authorizer_wire.CreateRequest(
                description=message.description,
                access=message.access,
                addresses_in_use=in_use,
                address=sends_from,
            )
            return self._pass_on(request, "create", serving, asked, answer)

        return self._sessions.find_in_use(create, request.traceparent)

    def _sends_from(self, groups: Iterable[GroupDescription]) -> str:
        """This host's address as the source of groups with one sender: in the network of the address that is asked for,
        or in the one that source-specific addresses belong to. `Refused` where it is in no network of a group."""
        for group in groups:
            if group.address:
                self.own_address(group.address)
        of_one = [group.address for group in groups if group.one_sender]
        if not of_one:
            return self._origin
        return self.own_address(of_one[0] or SOURCE_SPECIFIC_OF[6 if ":" in self._origin else 4])

    def _move_session(self, request: Requested, now: float) -> list[Any]:
        message = request.message
        description = self._sessions.open_description(message.description, now)
        conference_id = conference_id_of(description.coordinator, message.description.statement)
        serving = self._serving(conference_id, description.authorizer)

        def answer(moved: authorizer_wire.MoveResponse) -> Message:
            created = authorizer_wire.CreateResponse(conference_id=conference_id, groups=moved.groups)
            described = self._sessions.created(description, serving, created, self._origin, now)
            return wire.MoveSessionResponse(groups=described.groups, unsigned_sdp=described.unsigned_sdp)

        def move(in_use: list[str]) -> list[Any]:
            asked = authorizer_wire.MoveRequest(relocation=message.relocation, addresses_in_use=in_use)
            return self._pass_on(request, "move", serving, asked, answer)

        return self._sessions.find_in_use(move, request.traceparent)

    def _evict_member(self, request: Requested, now: float) -> list[Any]:
        message = request.message
        return self._pass_on(
            request,
            "evict",
            self._serving(message.conference_id, message.authorizer),
            authorizer_wire.EvictRequest(eviction=message.eviction),
            lambda evicted: wire.EvictMemberResponse(epochs=evicted.epochs),
        )

    def _fetch_certificate(self, request: Requested, now: float) -> list[Any]:
        message = request.message

        serving = self._serving(message.conference_id, message.authorizer)

        def answer(found: authorizer_wire.CertificateResponse) -> Message:
            authorizer = self.trust.verify_chain(found.authorizer_chain, now, ("authorizer",), peers=True)
            if str(authorizer.id) not in (message.authorizer, serving):
                raise Rejected("sender", f"the certificate is of {authorizer.id}")
            return wire.FetchCertificateResponse(
                authorizer_chain=found.authorizer_chain, coordinator_chain=found.coordinator_chain
            )

        asked = authorizer_wire.CertificateRequest(conference_id=message.conference_id, home=message.authorizer)
        return self._pass_on(request, "certificate", serving, asked, answer)

    def _countersign_record(self, request: Requested, now: float) -> list[Any]:
        message = request.message
        return self._pass_on(
            request,
            "countersign",
            self._serving(message.conference_id, message.authorizer),
            authorizer_wire.CountersignRequest(conference_id=message.conference_id, head=message.head),
            lambda signed: wire.CountersignRecordResponse(countersignature=signed.countersignature),
        )

    def _describe_groups(self, request: Requested, now: float) -> list[Any]:
        found: list[Membership | SendOnlyGroup] = [*self.memberships.values(), *self.sending_only.groups.values()]
        groups = [self._describe(each) for each in found]
        return [Answer(request.token, wire.DescribeGroupsResponse(groups=groups))]

    # ---- what comes back

    def _answered(self, event: Answered, now: float) -> list[Any]:
        token = event.token
        if isinstance(token, Registering):
            return self._registered(event, token.nearby, now)
        if isinstance(token, RegisteringSender | RenewingSender | LeavingSender):
            return self.sending_only.answered(event, now)
        if isinstance(token, RegisteringAgent):
            agency = self._agency(token.leaf_id)
            return [] if agency is None else agency.registered(event.message.sealed_gsa, now)
        if isinstance(token, Reporting):
            return self._distributing.reports.answered(token)
        if isinstance(token, Repairing):
            membership = self._membership(token.group_id)
            if membership is None:
                return []
            effects = membership.repaired(list(event.message.updates), event.message.register_again, now)
            return self._follow(membership, effects, now)
        if isinstance(token, Renewing):
            membership = self._membership(token.group_id)
            if event.message.register_again or membership is None:
                return self._lost(token.group_id, now)
            effects = membership.clock_heard(token.asked_at, event.message.time_ms, now)
            return effects + self._distributing.renewed(membership, token, event.message, now)
        if isinstance(token, _Passed):
            try:
                return [Answer(token.token, token.answer(event.message))]
            except Refused as refused:
                return [Refuse(token.token, refused)]
            except Rejected as rejected:
                return [Refuse(token.token, Refused("answer", rejected.cause, f"the answer was not good: {rejected}"))]
        if isinstance(token, Unanswered):
            return []
        announced = self._announcing.answered(event, now)
        return self._sessions.answered(event, now) if announced is None else announced

    def _failed(self, event: Failed, now: float) -> list[Any]:
        token = event.token
        if isinstance(token, Registering):
            return self._not_registered(token, event.refusal, now)
        if isinstance(token, RegisteringSender | RenewingSender | LeavingSender):
            return self.sending_only.failed(event, now)
        if isinstance(token, RegisteringAgent):
            agency = self._agency(token.leaf_id)
            return [] if agency is None else agency.again(now)
        if isinstance(token, Reporting):
            return self._distributing.reports.failed(token, event.refusal, now)
        if isinstance(token, Repairing):
            membership = self._membership(token.group_id)
            if membership is not None and event.refusal.code == "unknown-group":
                return self._follow(membership, membership.repaired([], register_again=True, now=now), now)
            return []  # the next hint tries again
        if isinstance(token, Renewing):
            return self._lost(token.group_id, now) if event.refusal.code == "unknown-group" else []
        if isinstance(token, _Passed):
            return [Refuse(token.token, event.refusal)]
        if isinstance(token, Unanswered):
            return [Count(f"unanswered.{event.refusal.code}")]
        announced = self._announcing.failed(event, now)
        return self._sessions.failed(event, now) if announced is None else announced
