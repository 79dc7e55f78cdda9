"""The MSM's decisions (paper, section 3.3): which groups this host is in, with which keys. Sans-I/O.

    JoinGroup  -> OpenGroup (IGMP) -> GroupOpened -> Authorizer.register -> keys installed -> Answer
                  (first, where members of the group serve joins: one of them; `distributing.py` is that one's side)
    updates, beacons, time -> `membership.py` -> keys, roster, switches for the packet path
    everything else -> passed on to Authorizer or directory, with what this host accepts checked on the way

Which Authorizer may key which addresses is the host's own list (RFC 5374's GPAD), never an announcement's word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.message import Message

from mcsa import subjects
from mcsa.conference_id import conference_id_of, group_id_of
from mcsa.distribution import open_right
from mcsa.endpoint import Answer, Answered, Count, Failed, Publish, Published, Refuse, Request, Requested, Woken
from mcsa.envelope import payload_hash
from mcsa.errors import Refused, Rejected
from mcsa.gkm import Joining, scheme_named
from mcsa.identity import Credentials
from mcsa.keys import Random
from mcsa.membership import Changed, Membership, RenewalWanted, RepairWanted
from mcsa.registration import open_association
from mcsa.sealing import SealingKey
from mcsa.send_only import SendOnlyGroup
from mcsa.source_authentication import SourceKey, mode_named
from mcsa.trust import Trust
from mcsa.updates import group_recipient
from mcsa.v1 import authorizer_pb2 as authorizer_wire
from mcsa.v1 import msm_pb2 as wire
from mcsa.v1.authorizer_pb2 import DistributionRight, GroupSecurityAssociation
from mcsa.v1.types_pb2 import GroupDescription, SessionAnnouncement
from services.msm.agency import Agency, RegisteringAgent
from services.msm.announcing import Announcing, Own, WithdrawalKey
from services.msm.clashes import worst_clash
from services.msm.distributing import Distributing, Renewing
from services.msm.events import (
    ClockSet,
    CloseGroup,
    GroupFailed,
    GroupMessage,
    GroupOpened,
    NetworkChanged,
    OpenGroup,
    SequenceLow,
    SourceForged,
    UnknownEpochSeen,
)
from services.msm.forgeries import Forgeries, remark
from services.msm.gpad import Accepted, Gpad
from services.msm.prepared import Prepared
from services.msm.reports import Reporting
from services.msm.sending_only import LeavingSender, RegisteringSender, RenewingSender, SendingOnly
from services.msm.sessions import Sessions

NEARBY_WITHIN = 1.0  # seconds for a distributor to answer; after that the Authorizer is asked


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator decides."""

    address: str
    directory: str
    accepts: Sequence[Accepted]
    hpke_suite: str = "x25519"
    withdrawal_key: WithdrawalKey | None = None  # of earlier processes of this host, too


@dataclass(slots=True)
class _Join:
    """A JoinGroup being worked on."""

    token: object
    message: wire.JoinGroupRequest
    key: SealingKey
    joining: Joining | None = None
    source_key: SourceKey | None = None
    asked_at: float = 0.0
    request_hash: bytes = b""
    traceparent: str | None = None
    association: GroupSecurityAssociation | None = None  # that waits for its subgroup to be opened


@dataclass(frozen=True, slots=True)
class _Passed:
    """A request passed on to Authorizer or directory."""

    token: object
    answer: Callable[[Any], Message]


@dataclass(frozen=True, slots=True)
class _Registering:
    group_id: bytes
    nearby: bool  # with a distributor of the group, not with the Authorizer


@dataclass(frozen=True, slots=True)
class _Repairing:
    group_id: bytes


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """Nobody waits for this one."""


def _not_known(_: bytes) -> int:
    return 0


def _no_counters(_: bytes) -> Mapping[str, int]:
    return {}


@dataclass
class MsmCore:
    """See the module."""

    credentials: Credentials
    trust: Trust
    random: Random
    settings: Settings
    path_counters: Callable[[bytes], Mapping[str, int]] = _no_counters
    largest_payload: Callable[[bytes], int] = _not_known
    memberships: dict[bytes, Membership] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._prepared = Prepared(str(self.credentials.id), self.random, self.settings.hpke_suite)
        self._joins: dict[bytes, _Join] = {}
        self._agencies: dict[bytes, Agency] = {}  # by the group that was asked for
        self._gpad = Gpad(self.settings.accepts)
        settings = self.settings
        key = settings.withdrawal_key or WithdrawalKey.draw(self.random)
        recover = settings.withdrawal_key is not None
        self._announcing = Announcing(
            key, settings.directory, settings.address, recover=recover, clashed=self._announcement_clashes
        )
        self._sessions = Sessions(self.credentials, self.trust, settings.directory, self._gpad, self._announcing)
        self.trouble = ""  # with this host's network
        self._distributing = Distributing(self.credentials, self.trust)
        self._forgeries = Forgeries()
        self.sending_only = SendingOnly(
            self.credentials,
            self.trust,
            self.random,
            self.settings.address,
            self._gpad,
            self._prepared,
            lambda: {*self.memberships, *(each.group.group_id for each in self._all_memberships())},
        )
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

    def _all_memberships(self) -> list[Membership]:
        """Those that this host has as a relaying agent, too."""
        return [*self.memberships.values(), *(agency.backbone for agency in self._agencies.values())]

    def _membership(self, group_id: bytes) -> Membership | None:
        """Of the group, or subgroup, with that id."""
        return next((each for each in self._all_memberships() if each.group.group_id == group_id), None)

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

    def _serving(self, conference_id: bytes, authorizer: str) -> str:
        """Whom to ask about a conference at home at `authorizer`: where this host is in it, who serves it there."""
        for membership in self.memberships.values():
            if (membership.conference_id, membership.home) == (conference_id, authorizer):
                return membership.authorizer
        return self._gpad.serving(authorizer)

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

        def answer(created: authorizer_wire.CreateResponse) -> Message:
            return self._sessions.created(description, serving, created, self.settings.address, now)

        def create(in_use: list[str]) -> list[Any]:
            asked = authorizer_wire.CreateRequest(
                description=message.description,
                access=message.access,
                addresses_in_use=in_use,
                address=self.settings.address,
            )
            return self._pass_on(request, "create", serving, asked, answer)

        return self._sessions.find_in_use(create, request.traceparent)

    def _move_session(self, request: Requested, now: float) -> list[Any]:
        message = request.message
        description = self._sessions.open_description(message.description, now)
        conference_id = conference_id_of(description.coordinator, message.description.statement)
        serving = self._serving(conference_id, description.authorizer)

        def answer(moved: authorizer_wire.MoveResponse) -> Message:
            created = authorizer_wire.CreateResponse(conference_id=conference_id, groups=moved.groups)
            described = self._sessions.created(description, serving, created, self.settings.address, now)
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

    def _describe(self, membership: Membership | SendOnlyGroup) -> wire.GroupState:
        roster = membership.roster.values() if isinstance(membership, Membership) else ()  # told to members
        asked_id = membership.asked.group_id if isinstance(membership, Membership) else b""
        policy = membership.group.policy
        return wire.GroupState(
            group=membership.group,
            epoch=membership.epoch,
            sender_id=membership.sender_id or 0,
            roster=roster,
            packets=self.path_counters(membership.group.group_id),
            state=membership.state,
            epochs=membership.epochs,
            switched_ms=round(membership.switched_at * 1000),
            largest_payload=self.largest_payload(membership.group.group_id),
            network=self.trouble,
            forgeries=self._forgeries.of(asked_id),
            source_overhead=mode_named(policy.source_authentication).overhead(policy),
        )

    def _source_forged(self, event: SourceForged, now: float) -> list[Any]:
        membership = self._membership(event.group_id)
        if membership is None:
            return []
        forgery = self._forgeries.take(event, membership, now)
        return [self._tell(membership, Changed("forgery", remark(forgery)), forgery)]

    # ---- joining

    def _join_group(self, request: Requested, now: float) -> list[Any]:
        message: wire.JoinGroupRequest = request.message
        group = message.group
        serving = self._gpad.serving(message.authorizer, group.address)
        self.sending_only.check_not_here(group.group_id)
        key = self._prepared.take(message.user_statement.statement, now)
        if group.group_id in self._joins:
            raise Refused(
                "busy", "one-join-at-a-time", "another join of this group is under way; try again in a second"
            )
        scheme_named(group.policy.gkm)  # announced, and perhaps unknown
        self._joins[group.group_id] = _Join(request.token, message, key, traceparent=request.traceparent)
        if group.group_id in self.memberships and self.memberships[group.group_id].socket_path:
            return self._register(group.group_id, now)
        host, home = str(self.credentials.id), message.authorizer
        membership = self.memberships[group.group_id] = Membership(
            group, serving, home, message.conference_id, host, self.trust, self.random
        )
        # of a protocol of subgroups, which address to join the Authorizer says
        return (
            self._register(group.group_id, now) if membership.has_subgroups else [OpenGroup(membership.domain, group)]
        )

    def _group_opened(self, event: GroupOpened, now: float) -> list[Any]:
        if event.group_id in self.sending_only.groups:
            return self.sending_only.opened(event.group_id, event.socket_path, now)
        for agency in self._agencies.values():
            if agency.backbone.group.group_id == event.group_id:
                return agency.opened(now)
        for asked_id, join in self._joins.items():
            if join.association is not None and join.association.group.group_id == event.group_id:
                self.memberships[asked_id].socket_path = event.socket_path
                return self._associated(asked_id, join.association, now)
        membership = self.memberships.get(event.group_id)
        if membership is None:
            return [CloseGroup(event.group_id)]
        membership.socket_path = event.socket_path
        nearby = scheme_named(membership.group.policy.gkm).distributors != "none"
        return self._register(event.group_id, now, nearby=nearby)

    def _register(self, group_id: bytes, now: float, *, nearby: bool = False) -> list[Any]:
        """With the Authorizer, or with a distributor `nearby`: that is, with whichever the bus picks. A host that was a
        member already goes to the Authorizer: what happened to it may have happened to the distributors too."""
        join, membership = self._joins[group_id], self.memberships[group_id]
        another_user = membership.state == "member" and bool(membership.users - {join.message.user})
        join.joining = membership.begin()
        join.source_key = None if another_user else membership.draw_source_key()
        if membership.state == "opening":
            membership.state = "registering"
        request = authorizer_wire.RegisterRequest(
            group_id=group_id,
            hpke_public_key=join.key.public,
            hpke_suite=join.key.suite,
            user_statement=join.message.user_statement,
            sender=not another_user,
            another_user=another_user,
            address=self.settings.address,
            gkm_contribution=join.joining.contribution,
            last_beacon=membership.last_beacon,
            asked_ms=round(now * 1000),
            source_key=b"" if join.source_key is None else join.source_key.public,
        )
        join.request_hash, join.asked_at = payload_hash(request), now
        token, trace = _Registering(group_id, nearby), join.traceparent
        if nearby:
            verb, group = group_id.hex(), group_recipient(group_id)
            return [
                Request(subjects.DISTRIBUTOR, verb, request, group, token, NEARBY_WITHIN, trace, any_host=True),
            ]
        return [Request(subjects.AUTHORIZER, "register", request, membership.authorizer, token, traceparent=trace)]

    def _registered(self, event: Answered, nearby: bool, now: float) -> list[Any]:
        group_id = event.token.group_id  # type: ignore[attr-defined] # a _Registering
        join = self._joins.get(group_id)
        membership = self.memberships.get(group_id)
        if join is None or membership is None:
            return []
        try:
            gsa = open_association(join.key, join.request_hash, event.message.sealed_gsa)
            right = self._open_right(event, membership, now) if nearby else None
        except Rejected as rejected:
            return self._not_associated(group_id, rejected, now, nearby=nearby)
        if right is None and _has_moved(membership, gsa):
            return self._follow_move(join, membership, gsa, now)
        if not membership.has_subgroups or (membership.socket_path and membership.group.group_id == gsa.group.group_id):
            return self._associated(group_id, gsa, now, right)
        return self._enter_subgroup(join, membership, gsa, now)

    def _follow_move(self, join: _Join, membership: Membership, gsa: GroupSecurityAssociation, now: float) -> list[Any]:
        """The Authorizer has moved the group since it was announced, or since this host joined it."""
        before = membership.asked
        membership.asked = GroupDescription()
        membership.asked.CopyFrom(before)
        membership.asked.address = gsa.group.address
        effects = self._enter_subgroup(join, membership, gsa, now)
        if join.association is None:  # the Authorizer may not key groups there, on this host
            membership.asked = before
        return effects

    def _enter_subgroup(
        self, join: _Join, membership: Membership, gsa: GroupSecurityAssociation, now: float
    ) -> list[Any]:
        """The Authorizer's choice, once it is found good."""
        try:
            membership.check(gsa)
            if self._gpad.serving(membership.home, gsa.group.address) != membership.authorizer:
                raise Rejected("association", "of a subgroup whose address is another Authorizer's to key here")
        except Rejected as rejected:
            return self._not_associated(membership.asked.group_id, rejected, now)
        except Refused as refused:
            return self._join_refused(membership.asked.group_id, refused)
        join.association = gsa
        left = self._end_agency(membership.asked.group_id)  # first: the backbone that it has open may be where to go
        left += [CloseGroup(membership.group.group_id)] if membership.socket_path else []
        membership.enter(gsa.group)
        return [*left, OpenGroup(membership.domain, gsa.group)]

    def _not_associated(self, group_id: bytes, rejected: Rejected, now: float, *, nearby: bool = False) -> list[Any]:
        if nearby:  # it may have been anybody's answer
            return [Count(f"rejected.distributor.{rejected.cause}"), *self._register(group_id, now)]
        sentence = f"the Authorizer's answer could not be used: {rejected}"
        return self._join_refused(group_id, Refused("association", rejected.cause, sentence))

    def _associated(
        self, group_id: bytes, gsa: GroupSecurityAssociation, now: float, right: DistributionRight | None = None
    ) -> list[Any]:
        join, membership = self._joins.pop(group_id), self.memberships[group_id]
        effects: list[Any] = []
        rejoined = membership.state == "stale"
        try:
            # there is no welcome where the host was a member and a user was added
            if join.joining is not None and (gsa.gkm_welcome or right is not None):
                effects += membership.install(join.joining, gsa, now, right, join.source_key)
                effects += membership.clock_heard(join.asked_at, gsa.time_ms, now) if right is None else []
                effects += self._distributing.registered(membership, gsa, now)
        except Rejected as rejected:
            self._joins[group_id] = join
            return self._not_associated(group_id, rejected, now, nearby=right is not None)
        membership.users.add(join.message.user)
        answer = wire.JoinGroupResponse(
            socket_path=membership.socket_path,
            sender_id=membership.sender_id or 0,
            description=membership.description,
            roster=membership.roster.values(),
            epoch=membership.epoch,
            address=membership.asked.address,
        )
        effects.append(Answer(join.token, answer))
        if rejoined:
            effects += self._follow(membership, [Changed("rejoined", "", join.traceparent)], now)
        return effects + self._relay(membership)

    def _open_right(self, event: Answered, membership: Membership, now: float) -> DistributionRight:
        """By which whoever answered may welcome."""
        group_id, host = membership.group.group_id, str(event.sender.id)
        return open_right(event.message.right, membership.authorizer, group_id, host, self.trust, now)

    def _join_refused(self, group_id: bytes, refused: Refused) -> list[Any]:
        join = self._joins.pop(group_id, None)
        membership = self.memberships.get(group_id)
        effects: list[Any] = []
        if membership is not None and membership.state in ("opening", "registering"):
            del self.memberships[group_id]
            effects.append(CloseGroup(membership.group.group_id))
        return effects if join is None else [*effects, Refuse(join.token, refused)]

    def _not_opened(self, event: GroupFailed, now: float) -> list[Any]:
        if event.group_id in self.sending_only.groups:
            return self.sending_only.not_opened(event.group_id, event.sentence)
        for agency in self._agencies.values():
            if agency.backbone.group.group_id == event.group_id:
                return [*agency.again(now), Count("agent.not-opened")]
        membership = self._membership(event.group_id)
        asked_id = event.group_id if membership is None else membership.asked.group_id
        return self._join_refused(asked_id, Refused("group", "membership", event.sentence))

    def _leave_group(self, request: Requested, now: float) -> list[Any]:
        group_id, user = request.message.group_id, request.message.user
        membership = self.memberships.get(group_id)
        answer = Answer(request.token, wire.LeaveGroupResponse())
        if membership is None:
            return [answer]
        membership.users.discard(user)
        ended = membership.state in ("ejected", "left")
        last = not membership.users
        message = authorizer_wire.LeaveRequest(group_id=membership.group.group_id, user="" if last else user)
        effects: list[Any] = []
        if not ended:
            effects.append(
                Request(
                    subjects.AUTHORIZER,
                    "leave",
                    message,
                    membership.authorizer,
                    _Unanswered(),
                    traceparent=request.traceparent,
                )
            )
        if last:
            del self.memberships[group_id]
            effects.append(CloseGroup(membership.group.group_id))
            effects += self._end_agency(group_id)
            self._forgeries.forget(group_id)
        return [*effects, answer]

    def _noticed(self, event: UnknownEpochSeen | ClockSet, now: float) -> list[Any]:
        """By a group's packet path."""
        membership = self._membership(event.group_id)
        if isinstance(event, ClockSet):
            group = membership or self.sending_only.groups.get(event.group_id)
            return [] if group is None else group.clock_set(now)
        return [] if membership is None else membership.hint(now)

    def _sequence_low(self, group_id: bytes, now: float) -> list[Any]:
        if group_id in self.sending_only.groups:
            return self.sending_only.sequence_low(group_id)
        return self._register_anew(group_id, "sequence numbers run out", now)

    def _network_changed(self, event: NetworkChanged, now: float) -> list[Any]:
        """Rosters name addresses: with another one this host is nobody until it has registered again."""
        self.trouble = event.trouble
        if event.address == self.settings.address:
            return []
        self.settings = replace(self.settings, address=event.address)
        for agency in self._agencies.values():
            agency.address = event.address
        effects = self.sending_only.moved(event.address)
        for membership in self._all_memberships():
            effects += self._follow(membership, membership.lost("this host has another address now"), now)
        return effects

    def _register_anew(self, group_id: bytes, why: str, now: float) -> list[Any]:
        membership = self._membership(group_id)
        if membership is None:
            return []
        return self._follow(membership, [Changed("statement-needed", why)], now)

    def _relay(self, membership: Membership) -> list[Any]:
        """This host may have become its subgroup's relaying agent, or be it no longer."""
        asked_id, effects = membership.asked.group_id, list[Any]()
        agency = self._agencies.get(asked_id)
        if agency is not None and agency.is_over:
            effects += self._end_agency(asked_id)
            agency = None
        if agency is None and membership.is_agent:
            agency = self._agencies[asked_id] = Agency(membership, self.settings.address)
            effects += agency.begin()
        return effects

    def _end_agency(self, asked_id: bytes) -> list[Any]:
        """Who is no agent any more is off the backbone by the Authorizer's word."""
        agency = self._agencies.pop(asked_id, None)
        return [] if agency is None else agency.end()

    def _agency(self, leaf_id: bytes) -> Agency | None:
        return next((agency for agency in self._agencies.values() if agency.leaf_id == leaf_id), None)

    # ---- what comes back, and what comes by itself

    def _answered(self, event: Answered, now: float) -> list[Any]:
        token = event.token
        if isinstance(token, _Registering):
            return self._registered(event, token.nearby, now)
        if isinstance(token, RegisteringSender | RenewingSender | LeavingSender):
            return self.sending_only.answered(event, now)
        if isinstance(token, RegisteringAgent):
            agency = self._agency(token.leaf_id)
            return [] if agency is None else agency.registered(event.message.sealed_gsa, now)
        if isinstance(token, Reporting):
            return self._distributing.reports.answered(token)
        if isinstance(token, _Repairing):
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
        if isinstance(token, _Unanswered):
            return []
        announced = self._announcing.answered(event, now)
        return self._sessions.answered(event, now) if announced is None else announced

    def _failed(self, event: Failed, now: float) -> list[Any]:
        token = event.token
        if isinstance(token, _Registering):
            return self._not_registered(token, event.refusal, now)
        if isinstance(token, RegisteringSender | RenewingSender | LeavingSender):
            return self.sending_only.failed(event, now)
        if isinstance(token, RegisteringAgent):
            agency = self._agency(token.leaf_id)
            return [] if agency is None else agency.again(now)
        if isinstance(token, Reporting):
            return self._distributing.reports.failed(token, event.refusal, now)
        if isinstance(token, _Repairing):
            membership = self._membership(token.group_id)
            if membership is not None and event.refusal.code == "unknown-group":
                return self._follow(membership, membership.repaired([], register_again=True, now=now), now)
            return []  # the next hint tries again
        if isinstance(token, Renewing):
            return self._lost(token.group_id, now) if event.refusal.code == "unknown-group" else []
        if isinstance(token, _Passed):
            return [Refuse(token.token, event.refusal)]
        if isinstance(token, _Unanswered):
            return [Count(f"unanswered.{event.refusal.code}")]
        announced = self._announcing.failed(event, now)
        return self._sessions.failed(event, now) if announced is None else announced

    def _not_registered(self, token: _Registering, refusal: Refused, now: float) -> list[Any]:
        """The Authorizer's word is the last; a distributor's isn't: it may be anybody's."""
        if not token.nearby:
            return self._join_refused(token.group_id, refusal)
        known = refusal.code in ("no-answer", "nobody-serves")
        counted = Count(f"distributor.{refusal.code if known else 'refused'}")
        return [counted, *self._register(token.group_id, now)] if token.group_id in self._joins else [counted]

    def _lost(self, group_id: bytes, now: float) -> list[Any]:
        membership = self._membership(group_id)
        if membership is None:
            return []
        return self._follow(membership, membership.lost("the Authorizer doesn't know this host as a member"), now)

    def _group_message(self, event: GroupMessage, now: float) -> list[Any]:
        if event.group_id in self.sending_only.groups:
            return self.sending_only.message(event, now)
        membership = self._membership(event.group_id)
        if membership is None:
            return []
        try:
            return self._follow(membership, membership.message_arrived(event.payload, now), now)
        except Rejected as rejected:
            return [Count(f"rejected.update.{rejected.cause}")]

    def _woken(self, now: float) -> list[Any]:
        effects: list[Any] = [*self._distributing.reports.woken(now), *self._announcing.woken(now)]
        effects += self.sending_only.woken(now)
        for membership in self._all_memberships():
            effects += self._follow(membership, membership.woken(now), now)
        for agency in list(self._agencies.values()):
            effects += agency.woken(now)
        return effects

    def _follow(self, membership: Membership, effects: Sequence[Any], now: float) -> list[Any]:
        """Turns a membership's wishes into requests and events; passes the packet path's effects on."""
        out: list[Any] = []
        for effect in effects:
            if isinstance(effect, RepairWanted):
                group_id = membership.group.group_id
                message = authorizer_wire.RepairRequest(group_id=group_id, have_number=effect.have_number)
                out.append(
                    Request(
                        subjects.AUTHORIZER, "repair", message, membership.authorizer, _Repairing(group_id), within=3.0
                    )
                )
            elif isinstance(effect, RenewalWanted):
                renewal, token = self._distributing.renewal(membership, now)
                out.append(Request(subjects.AUTHORIZER, "renew", renewal, membership.authorizer, token))
            elif isinstance(effect, Changed):
                out += self._changed(membership, effect, now)
            else:
                out.append(effect)
        return out if membership.as_agent else out + self._relay(membership)

    def _announcement_clashes(
        self, own: Own, clashes: Iterable[SessionAnnouncement], announced_at: float, now: float
    ) -> list[Any]:
        """The Coordinator's CSM decides what comes of it."""
        change, remark = worst_clash(own.sdp, clashes, announced_at)
        message = wire.GroupChanged(group_id=group_id_of(own.conference_id, 0), change=change, remark=remark)
        subject = subjects.subject(subjects.CSM, self.credentials.id.token, subjects.GROUP_CHANGED)
        return [Publish(subject, message, str(self.credentials.id), None)]

    def _changed(self, membership: Membership, changed: Changed, now: float) -> list[Any]:
        if not membership.as_agent:
            return [self._tell(membership, changed)]
        ended = changed.what in ("statement-needed", "left", "ejected")
        agencies = [agency for agency in self._agencies.values() if agency.backbone is membership and ended]
        return [effect for agency in agencies for effect in agency.again(now)]

    def _tell(self, membership: Membership, changed: Changed, forgery: wire.SourceForgery | None = None) -> Publish:
        message = wire.GroupChanged(
            group_id=membership.asked.group_id,
            change=changed.what,
            epoch=membership.epoch,
            roster=membership.roster.values() if forgery is None else (),  # it is as it was
            remark=changed.remark,
            update_number=membership.number,
            traceparent=changed.traceparent or "",
            switched_ms=round(changed.switched_at * 1000),
            forgery=forgery,
        )
        subject = subjects.subject(subjects.CSM, self.credentials.id.token, subjects.GROUP_CHANGED)
        return Publish(subject, message, str(self.credentials.id), changed.traceparent)


def _has_moved(membership: Membership, gsa: GroupSecurityAssociation) -> bool:
    """The association is of the very group that was asked for, at another address."""
    asked = membership.asked
    same = not membership.has_subgroups and gsa.group.group_id == asked.group_id
    return same and gsa.group.address != asked.address
