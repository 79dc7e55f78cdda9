"""The MSM's decisions (paper, section 3.3): which groups this host is in, with which keys. Sans-I/O.

    JoinGroup  -> OpenGroup (IGMP) -> GroupOpened -> Authorizer.register -> keys installed -> Answer
    updates, beacons, time -> `membership.py` -> keys, roster, switches for the packet path
    everything else -> passed on to Authorizer or directory, with what this host accepts checked on the way

Which Authorizer may key which addresses is the host's own list (RFC 5374's GPAD), never an announcement's word.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from google.protobuf.message import Message

from mcsa import subjects
from mcsa.endpoint import Answer, Answered, Count, Failed, Publish, Published, Refuse, Request, Requested, Woken
from mcsa.envelope import payload_hash
from mcsa.errors import Refused, Rejected
from mcsa.gkm import Joining
from mcsa.identity import Credentials
from mcsa.keys import Random
from mcsa.registration import open_association
from mcsa.sealing import SealingKey
from mcsa.trust import Trust
from mcsa.v1 import authorizer_pb2 as authorizer_wire
from mcsa.v1 import msm_pb2 as wire
from services.msm.events import (
    CloseGroup,
    GroupFailed,
    GroupMessage,
    GroupOpened,
    OpenGroup,
    SequenceLow,
    UnknownEpochSeen,
)
from services.msm.membership import Changed, Membership, RenewalWanted, RepairWanted
from services.msm.sessions import Sessions

STATEMENT_FOR = 30.0  # seconds that a user's statement holds
PREPARED_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Accepted:
    """One line of the GPAD: this Authorizer (a pattern over SPIFFE IDs) may key groups in this network."""

    authorizer: str
    network: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator decides."""

    address: str
    directory: str
    accepts: Sequence[Accepted]
    hpke_suite: str = "x25519"


@dataclass(frozen=True, slots=True)
class _Prepared:
    key: SealingKey
    expires_at: float


@dataclass(slots=True)
class _Join:
    """A JoinGroup being worked on."""

    token: object
    message: wire.JoinGroupRequest
    key: SealingKey
    joining: Joining | None = None
    request_hash: bytes = b""
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class _Passed:
    """A request passed on to Authorizer or directory."""

    token: object
    answer: Callable[[Any], Message]


@dataclass(frozen=True, slots=True)
class _Registering:
    group_id: bytes


@dataclass(frozen=True, slots=True)
class _Repairing:
    group_id: bytes


@dataclass(frozen=True, slots=True)
class _Renewing:
    group_id: bytes


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """Nobody waits for this one."""


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
    memberships: dict[bytes, Membership] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._prepared: dict[bytes, _Prepared] = {}
        self._joins: dict[bytes, _Join] = {}
        self._sessions = Sessions(
            self.credentials, self.trust, self.random, self.settings.directory, self.check_accepted
        )
        self._verbs: dict[str, Callable[[Requested, float], list[Any]]] = {
            "list-sessions": self._sessions.list_sessions,
            "create-session": self._create_session,
            "announce-session": self._sessions.announce,
            "withdraw-session": self._sessions.withdraw,
            "prepare-join": self._prepare_join,
            "join-group": self._join_group,
            "leave-group": self._leave_group,
            "evict-member": self._evict_member,
            "fetch-certificate": self._fetch_certificate,
            "countersign-record": self._countersign_record,
            "describe-groups": self._describe_groups,
        }

    # ---- the core's interface

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `mcsa.endpoint.Core`."""
        match event:
            case Requested():
                return self._requested(event, now)
            case Answered():
                return self._answered(event, now)
            case Failed():
                return self._failed(event, now)
            case GroupOpened():
                return self._group_opened(event, now)
            case GroupFailed():
                return self._join_refused(event.group_id, Refused("group", "membership", event.sentence))
            case GroupMessage():
                return self._group_message(event, now)
            case UnknownEpochSeen():
                membership = self.memberships.get(event.group_id)
                return [] if membership is None else membership.hint(now)
            case SequenceLow():
                return self._register_anew(event.group_id, "sequence numbers run out")
            case Woken():
                return self._woken(now)
            case Published():
                return []
        raise TypeError(event)

    def reauthorise(self, request: Requested, now: float) -> None:
        """Only this host's own CSM asks; what it was told once it may be told again."""
        self._check_caller(request)

    def wake_at(self) -> float | None:
        """See `mcsa.endpoint.Core`."""
        times = [membership.wake_at() for membership in self.memberships.values()]
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

    def check_accepted(self, authorizer: str, address: str) -> None:
        """Raises `Refused` unless this host's GPAD lets this Authorizer key this address ("" for any)."""
        for line in self.settings.accepts:
            if not fnmatchcase(authorizer, line.authorizer):
                continue
            if not address or ipaddress.ip_address(address) in ipaddress.ip_network(line.network):
                return
        sentence = (
            f"this host accepts no keys for {address or 'any group'} from {authorizer or 'nobody'}; see `accepts`"
        )
        raise Refused("authorizer", "gpad", sentence)

    def _pass_on(
        self, request: Requested, verb: str, authorizer: str, message: Message, answer: Callable[[Any], Message]
    ) -> list[Any]:
        self.check_accepted(authorizer, "")
        token = _Passed(request.token, answer)
        return [
            Request(subjects.AUTHORIZER, verb, message, authorizer, token, traceparent=request.traceparent),
        ]

    def _create_session(self, request: Requested, now: float) -> list[Any]:
        message = request.message
        description = self._sessions.open_description(message.description, now)
        asked = authorizer_wire.CreateRequest(description=message.description, access=message.access)

        def answer(created: authorizer_wire.CreateResponse) -> Message:
            return self._sessions.created(description, created, self.settings.address, now)

        return self._pass_on(request, "create", description.authorizer, asked, answer)

    def _evict_member(self, request: Requested, now: float) -> list[Any]:
        message = request.message
        return self._pass_on(
            request,
            "evict",
            message.authorizer,
            authorizer_wire.EvictRequest(eviction=message.eviction),
            lambda evicted: wire.EvictMemberResponse(epochs=evicted.epochs),
        )

    def _fetch_certificate(self, request: Requested, now: float) -> list[Any]:
        message = request.message

        def answer(found: authorizer_wire.CertificateResponse) -> Message:
            self.trust.verify_chain(found.authorizer_chain, now, ("authorizer",))
            return wire.FetchCertificateResponse(
                authorizer_chain=found.authorizer_chain, coordinator_chain=found.coordinator_chain
            )

        asked = authorizer_wire.CertificateRequest(conference_id=message.conference_id)
        return self._pass_on(request, "certificate", message.authorizer, asked, answer)

    def _countersign_record(self, request: Requested, now: float) -> list[Any]:
        message = request.message
        return self._pass_on(
            request,
            "countersign",
            message.authorizer,
            authorizer_wire.CountersignRequest(conference_id=message.conference_id, head=message.head),
            lambda signed: wire.CountersignRecordResponse(countersignature=signed.countersignature),
        )

    def _describe_groups(self, request: Requested, now: float) -> list[Any]:
        groups = [self._describe(membership) for membership in self.memberships.values()]
        return [Answer(request.token, wire.DescribeGroupsResponse(groups=groups))]

    def _describe(self, membership: Membership) -> wire.GroupState:
        return wire.GroupState(
            group=membership.group,
            epoch=membership.epoch,
            sender_id=membership.sender_id or 0,
            roster=membership.roster.values(),
            packets=self.path_counters(membership.group.group_id),
            state=membership.state,
            epochs=membership.epochs,
            switched_ms=round(membership.switched_at * 1000),
        )

    # ---- joining

    def _prepare_join(self, request: Requested, now: float) -> list[Any]:
        message = request.message
        self._prepared = {text: kept for text, kept in self._prepared.items() if now < kept.expires_at}
        if len(self._prepared) >= PREPARED_AT_ONCE:
            raise Refused("too-many", "prepared-joins", "too many joins were prepared and not finished; wait a minute")
        key = SealingKey.generate(message.hpke_suite or self.settings.hpke_suite)
        statement = authorizer_wire.UserStatement(
            host=str(self.credentials.id),
            hpke_public_key=key.public,
            group_id=message.group_id,
            authorizer=message.authorizer,
            nonce=self.random(16),
            expires_ms=round((now + STATEMENT_FOR) * 1000),
        ).SerializeToString()
        self._prepared[statement] = _Prepared(key, now + STATEMENT_FOR)
        return [Answer(request.token, wire.PrepareJoinResponse(statement=statement))]

    def _join_group(self, request: Requested, now: float) -> list[Any]:
        message: wire.JoinGroupRequest = request.message
        group = message.group
        self.check_accepted(message.authorizer, group.address)
        prepared = self._prepared.pop(message.user_statement.statement, None)
        if prepared is None or now >= prepared.expires_at:
            sentence = "the statement is not one that this host prepared in the last half minute; prepare again"
            raise Refused("user-statement", "prepared", sentence)
        if group.group_id in self._joins:
            raise Refused(
                "busy", "one-join-at-a-time", "another join of this group is under way; try again in a second"
            )
        self._joins[group.group_id] = _Join(request.token, message, prepared.key, traceparent=request.traceparent)
        if group.group_id in self.memberships and self.memberships[group.group_id].socket_path:
            return self._register(group.group_id)
        self.memberships[group.group_id] = Membership(
            group, message.authorizer, message.conference_id, str(self.credentials.id), self.trust, self.random
        )
        return [OpenGroup(group)]

    def _group_opened(self, event: GroupOpened, now: float) -> list[Any]:
        membership = self.memberships.get(event.group_id)
        if membership is None:
            return [CloseGroup(event.group_id)]
        membership.socket_path = event.socket_path
        return self._register(event.group_id)

    def _register(self, group_id: bytes) -> list[Any]:
        join, membership = self._joins[group_id], self.memberships[group_id]
        another_user = membership.state == "member" and bool(membership.users - {join.message.user})
        join.joining = membership.begin()
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
        )
        join.request_hash = payload_hash(request)
        return [
            Request(
                subjects.AUTHORIZER,
                "register",
                request,
                membership.authorizer,
                _Registering(group_id),
                traceparent=join.traceparent,
            )
        ]

    def _registered(self, group_id: bytes, sealed: bytes, now: float) -> list[Any]:
        join = self._joins.pop(group_id, None)
        membership = self.memberships.get(group_id)
        if join is None or membership is None:
            return []
        effects: list[Any] = []
        rejoined = membership.state == "stale"
        try:
            gsa = open_association(join.key, join.request_hash, sealed)
            if join.joining is not None and gsa.gkm_welcome:  # none where the host was a member and a user was added
                effects += membership.install(join.joining, gsa, now)
        except Rejected as rejected:
            self._joins[group_id] = join
            sentence = f"the Authorizer's answer could not be used: {rejected}"
            return self._join_refused(group_id, Refused("association", rejected.cause, sentence))
        membership.users.add(join.message.user)
        answer = wire.JoinGroupResponse(
            socket_path=membership.socket_path,
            sender_id=membership.sender_id or 0,
            description=membership.description,
            roster=membership.roster.values(),
            epoch=membership.epoch,
        )
        effects.append(Answer(join.token, answer))
        if rejoined:
            effects += self._follow(membership, [Changed("rejoined", "", join.traceparent)], now)
        return effects

    def _join_refused(self, group_id: bytes, refused: Refused) -> list[Any]:
        join = self._joins.pop(group_id, None)
        membership = self.memberships.get(group_id)
        effects: list[Any] = []
        if membership is not None and membership.state in ("opening", "registering"):
            del self.memberships[group_id]
            effects.append(CloseGroup(group_id))
        return effects if join is None else [*effects, Refuse(join.token, refused)]

    def _leave_group(self, request: Requested, now: float) -> list[Any]:
        group_id, user = request.message.group_id, request.message.user
        membership = self.memberships.get(group_id)
        answer = Answer(request.token, wire.LeaveGroupResponse())
        if membership is None:
            return [answer]
        membership.users.discard(user)
        ended = membership.state in ("ejected", "left")
        last = not membership.users
        message = authorizer_wire.LeaveRequest(group_id=group_id, user="" if last else user)
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
            effects.append(CloseGroup(group_id))
        return [*effects, answer]

    def _register_anew(self, group_id: bytes, why: str) -> list[Any]:
        membership = self.memberships.get(group_id)
        if membership is None:
            return []
        return [self._tell(membership, Changed("statement-needed", why))]

    # ---- what comes back, and what comes by itself

    def _answered(self, event: Answered, now: float) -> list[Any]:
        token = event.token
        if isinstance(token, _Registering):
            return self._registered(token.group_id, event.message.sealed_gsa, now)
        if isinstance(token, _Repairing):
            membership = self.memberships.get(token.group_id)
            if membership is None:
                return []
            effects = membership.repaired(list(event.message.updates), event.message.register_again, now)
            return self._follow(membership, effects, now)
        if isinstance(token, _Renewing):
            return self._lost(token.group_id, now) if event.message.register_again else []
        if isinstance(token, _Passed):
            try:
                return [Answer(token.token, token.answer(event.message))]
            except Refused as refused:
                return [Refuse(token.token, refused)]
            except Rejected as rejected:
                return [Refuse(token.token, Refused("answer", rejected.cause, f"the answer was not good: {rejected}"))]
        if isinstance(token, _Unanswered):
            return []
        return self._sessions.answered(event, now)

    def _failed(self, event: Failed, now: float) -> list[Any]:
        token = event.token
        if isinstance(token, _Registering):
            return self._join_refused(token.group_id, event.refusal)
        if isinstance(token, _Repairing):
            membership = self.memberships.get(token.group_id)
            if membership is not None and event.refusal.code == "unknown-group":
                return self._follow(membership, membership.repaired([], register_again=True, now=now), now)
            return []  # the next hint tries again
        if isinstance(token, _Renewing):
            return self._lost(token.group_id, now) if event.refusal.code == "unknown-group" else []
        if isinstance(token, _Passed):
            return [Refuse(token.token, event.refusal)]
        if isinstance(token, _Unanswered):
            return [Count(f"unanswered.{event.refusal.code}")]
        return self._sessions.failed(event, now)

    def _lost(self, group_id: bytes, now: float) -> list[Any]:
        membership = self.memberships.get(group_id)
        if membership is None:
            return []
        return self._follow(membership, membership.lost("the Authorizer doesn't know this host as a member"), now)

    def _group_message(self, event: GroupMessage, now: float) -> list[Any]:
        membership = self.memberships.get(event.group_id)
        if membership is None:
            return []
        try:
            return self._follow(membership, membership.message_arrived(event.payload, now), now)
        except Rejected as rejected:
            return [Count(f"rejected.update.{rejected.cause}")]

    def _woken(self, now: float) -> list[Any]:
        effects: list[Any] = []
        for membership in list(self.memberships.values()):
            effects += self._follow(membership, membership.woken(now), now)
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
                group_id = membership.group.group_id
                renewal = authorizer_wire.RenewRequest(group_id=group_id)
                token = _Renewing(group_id)
                out.append(Request(subjects.AUTHORIZER, "renew", renewal, membership.authorizer, token))
            elif isinstance(effect, Changed):
                out.append(self._tell(membership, effect))
            else:
                out.append(effect)
        return out

    def _tell(self, membership: Membership, changed: Changed) -> Publish:
        message = wire.GroupChanged(
            group_id=membership.group.group_id,
            change=changed.what,
            epoch=membership.epoch,
            roster=membership.roster.values(),
            remark=changed.remark,
            update_number=membership.number,
            traceparent=changed.traceparent or "",
            switched_ms=round(changed.switched_at * 1000),
        )
        subject = subjects.subject(subjects.CSM, self.credentials.id.token, subjects.GROUP_CHANGED)
        return Publish(subject, message, str(self.credentials.id), changed.traceparent)
