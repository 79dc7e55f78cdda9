"""The groups that this host sends to and is no member of, at its MSM. Sans-I/O.

    OpenSending request -> `OpenSending` (a local socket, no IGMP) -> GroupOpened -> Authorizer.register-sender
    beacons, time       -> `mcsa.send_only` -> Authorizer.renew-sender -> the key of our own packets in the next epoch

No group key comes to this host, and its packet path is given none: nothing that arrives is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from mcsa import subjects
from mcsa.endpoint import Answer, Answered, Count, Failed, Publish, Refuse, Request, Requested
from mcsa.envelope import payload_hash
from mcsa.errors import Refused, Rejected
from mcsa.identity import Credentials
from mcsa.keys import Random
from mcsa.membership import Changed
from mcsa.registration import open_sending
from mcsa.sealing import SealingKey
from mcsa.send_only import KeyWanted, SendOnlyGroup
from mcsa.source_authentication import SourceKey
from mcsa.trust import Trust
from mcsa.v1 import authorizer_pb2 as authorizer_wire
from mcsa.v1 import msm_pb2 as wire
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.events import CloseGroup, GroupMessage, OpenSending
from services.msm.gpad import Gpad
from services.msm.prepared import Prepared

RENEWED_WITHIN = 3.0  # seconds; it is asked again before


@dataclass(slots=True)
class _Asked:
    """An OpenSending request being worked on."""

    token: object
    message: wire.OpenSendingRequest
    key: SealingKey
    request_hash: bytes = b""
    traceparent: str | None = None
    source_key: SourceKey | None = None
    asked_at: float = 0.0


@dataclass(frozen=True, slots=True)
class RegisteringSender:
    """Token of a registration."""

    group_id: bytes


@dataclass(frozen=True, slots=True)
class RenewingSender:
    """Token of a question for a key; what its answer is sealed to."""

    group_id: bytes
    sender_id: int
    key: SealingKey
    request_hash: bytes
    asked_at: float


@dataclass(frozen=True, slots=True)
class LeavingSender:
    """Token of the word that this host sends no longer; nobody waits for its answer."""


class SendingOnly:
    """See the module. `own_address`: this host's in the network of a group. `joined`: the groups that this host is in,
    or about to be."""

    def __init__(
        self,
        credentials: Credentials,
        trust: Trust,
        random: Random,
        own_address: Callable[[str], str],
        gpad: Gpad,
        prepared: Prepared,
        joined: Callable[[], Collection[bytes]],
    ) -> None:
        self._credentials = credentials
        self._trust = trust
        self._random = random
        self._own_address = own_address
        self._gpad = gpad
        self._prepared = prepared
        self._joined = joined
        self._asked: dict[bytes, _Asked] = {}
        self.groups: dict[bytes, SendOnlyGroup] = {}

    # ---- requests of the CSM

    def open(self, request: Requested, now: float) -> list[Any]:
        """`OpenSendingRequest`; `Refused` where it can't be."""
        message: wire.OpenSendingRequest = request.message
        group, home = message.group, message.authorizer
        serving = self._gpad.serving(home, group.address)
        self._own_address(group.address)
        key = self._prepared.take(message.user_statement.statement, now)
        if serving != home:
            sentence = "a host sends to a peer domain's groups as a member only; join it"
            raise Refused("not-allowed", "home-only", sentence)
        if group.group_id in self._joined():
            sentence = "this host is a member of the group, and its applications may send; `mcsa conference show`"
            raise Refused("member", "member-or-send-only", sentence)
        if group.group_id in self._asked:
            raise Refused("busy", "one-at-a-time", "another request of this kind is under way; try again in a second")
        known = self.groups.get(group.group_id)
        if known is not None and known.user != message.user:
            sentence = f"this host sends to the group for {known.user} already; end that first, or use another host"
            raise Refused("user", "one-user-a-host", sentence)
        self._asked[group.group_id] = _Asked(request.token, message, key, traceparent=request.traceparent)
        if known is not None and known.socket_path:
            return self._register(group.group_id, now)
        opening = SendOnlyGroup(group, home, message.conference_id, message.user, self._trust, self._random)
        self.groups[group.group_id] = opening
        return [OpenSending(opening.domain, group)]

    def end(self, request: Requested, now: float) -> list[Any]:
        """`EndSendingRequest`."""
        answer = Answer(request.token, wire.EndSendingResponse())
        group_id = request.message.group_id
        sending = self.groups.pop(group_id, None)
        if sending is None:
            return [answer]
        ended = Refused("dismissed", "ended", "it was ended before it had begun")
        asked = self._asked.pop(group_id, None)
        leave = authorizer_wire.LeaveRequest(group_id=group_id)
        return [
            *([] if asked is None else [Refuse(asked.token, ended)]),
            Request(subjects.AUTHORIZER, "leave", leave, sending.authorizer, LeavingSender()),
            CloseGroup(group_id),
            answer,
        ]

    def check_not_here(self, group_id: bytes) -> None:
        """`Refused` where this host sends to the group as no member: it can't join it as well."""
        if group_id in self.groups:
            sentence = "this host sends to the group without being a member; end that first: `mcsa send-only --end`"
            raise Refused("send-only", "member-or-send-only", sentence)

    # ---- registration

    def opened(self, group_id: bytes, socket_path: str, now: float) -> list[Any]:
        """The local socket is there."""
        self.groups[group_id].socket_path = socket_path
        return self._register(group_id, now)

    def not_opened(self, group_id: bytes, sentence: str) -> list[Any]:
        """It can't be had."""
        return self._refused(group_id, Refused("group", "sending", sentence))

    def _register(self, group_id: bytes, now: float) -> list[Any]:
        asked, sending = self._asked.get(group_id), self.groups[group_id]
        if asked is None:
            return []
        sending.state = "registering" if sending.state == "opening" else sending.state
        asked.source_key = sending.draw_source_key()
        request = authorizer_wire.RegisterSenderRequest(
            group_id=group_id,
            hpke_public_key=asked.key.public,
            hpke_suite=asked.key.suite,
            user_statement=asked.message.user_statement,
            address=self._own_address(sending.group.address),
            last_beacon=sending.last_beacon,
            asked_ms=round(now * 1000),
            source_key=b"" if asked.source_key is None else asked.source_key.public,
        )
        asked.request_hash, asked.asked_at = payload_hash(request), now
        token, trace = RegisteringSender(group_id), asked.traceparent
        return [Request(subjects.AUTHORIZER, "register-sender", request, sending.authorizer, token, traceparent=trace)]

    def answered(self, event: Answered, now: float) -> list[Any]:
        """Something of ours was."""
        match event.token:
            case RegisteringSender(group_id):
                return self._registered(group_id, event.message.sealed_association, now)
            case RenewingSender():
                return self._renewed(event.token, event.message, now)
        return []

    def failed(self, event: Failed, now: float) -> list[Any]:
        """It wasn't, or it was refused."""
        match event.token:
            case RegisteringSender(group_id):
                return self._refused(group_id, event.refusal)
            case RenewingSender(group_id=group_id):
                # who was thrown out is told so; anything else may pass, and it is asked again
                gone = event.refusal.code in ("unknown-group", "not-allowed")
                return self._lost(group_id, now) if gone else []
        return [Count(f"unanswered.{event.refusal.code}")]

    def _registered(self, group_id: bytes, sealed: bytes, now: float) -> list[Any]:
        asked, sending = self._asked.get(group_id), self.groups.get(group_id)
        if asked is None or sending is None:
            return []
        again = sending.sender_id is not None
        try:
            association = open_sending(asked.key, asked.request_hash, sealed)
            if self._has_moved(sending, association):
                return self._follow_move(sending, association.group.address)
            effects = self._follow(sending, sending.install(association, now, asked.source_key), now)
            effects += sending.clock_heard(asked.asked_at, association.time_ms, now)
        except (Rejected, Refused) as unusable:
            rule = unusable.cause if isinstance(unusable, Rejected) else unusable.rule
            sentence = f"the Authorizer's answer could not be used: {unusable}"
            return self._refused(group_id, Refused("association", rule, sentence))
        del self._asked[group_id]
        response = wire.OpenSendingResponse(
            socket_path=sending.socket_path,
            sender_id=sending.sender_id or 0,
            description=sending.description,
            epoch=sending.epoch,
        )
        effects.append(Answer(asked.token, response))
        return effects + (self._follow(sending, [Changed("rejoined")], now) if again else [])

    def _has_moved(self, sending: SendOnlyGroup, association: authorizer_wire.SendingAssociation) -> bool:
        """The group is at another address than was announced; `Rejected`, `Refused` where the Authorizer may not key
        groups there, on this host."""
        group = association.group
        if group.group_id != sending.group.group_id or group.address == sending.group.address:
            return False
        if self._gpad.serving(sending.authorizer, group.address) != sending.authorizer:
            raise Rejected("association", "of a group whose address is another Authorizer's to key here")
        self._own_address(group.address)
        return True

    def _follow_move(self, sending: SendOnlyGroup, address: str) -> list[Any]:
        """Its socket is opened anew there, and it registers once more: what it asked with is good for that."""
        group = GroupDescription()
        group.CopyFrom(sending.group)
        group.address = address
        opening = SendOnlyGroup(
            group, sending.authorizer, sending.conference_id, sending.user, self._trust, self._random
        )
        self.groups[group.group_id] = opening
        return [CloseGroup(group.group_id), OpenSending(opening.domain, group)]

    def _refused(self, group_id: bytes, refusal: Refused) -> list[Any]:
        asked, sending = self._asked.pop(group_id, None), self.groups.get(group_id)
        effects: list[Any] = [] if asked is None else [Refuse(asked.token, refusal)]
        if sending is not None and sending.sender_id is None:
            del self.groups[group_id]
            effects.append(CloseGroup(group_id))
        return effects

    # ---- from epoch to epoch

    def _renewed(self, token: RenewingSender, message: authorizer_wire.RenewSenderResponse, now: float) -> list[Any]:
        sending = self.groups.get(token.group_id)
        if sending is None or sending.sender_id != token.sender_id:
            return []
        if message.register_again:
            return self._lost(token.group_id, now)
        sealed = message.sealed_association
        try:
            association = open_sending(token.key, token.request_hash, sealed) if sealed else None
            clock = sending.clock_heard(token.asked_at, message.time_ms, now)
            return [*clock, *self._follow(sending, sending.renewed(association, now), now)]
        except Rejected as rejected:
            return [Count(f"rejected.sending-key.{rejected.cause}")]

    def _lost(self, group_id: bytes, now: float) -> list[Any]:
        sending = self.groups.get(group_id)
        lost = "the Authorizer doesn't know this host as one that sends"
        return [] if sending is None else self._follow(sending, sending.lost(lost), now)

    def message(self, event: GroupMessage, now: float) -> list[Any]:
        """What the Authorizer told a group of ours."""
        sending = self.groups[event.group_id]
        try:
            return self._follow(sending, sending.message_arrived(event.payload, now), now)
        except Rejected as rejected:
            return [Count(f"rejected.update.{rejected.cause}")]

    def sequence_low(self, group_id: bytes) -> list[Any]:
        """Our numbers in this epoch run out: another sender ID has fresh ones."""
        return self._follow(self.groups[group_id], [Changed("statement-needed", "sequence numbers run out")], 0.0)

    def moved(self, touched: Callable[[str], bool]) -> list[Any]:
        """This host's address is another now in the network of the groups at these addresses: the rosters name it."""
        changed = [Changed("statement-needed", "this host has another address now")]
        sending = [each for each in self.groups.values() if touched(each.group.address)]
        return [effect for each in sending for effect in self._follow(each, changed, 0.0)]

    def woken(self, now: float) -> list[Any]:
        """What is due."""
        return [effect for sending in self.groups.values() for effect in self._follow(sending, sending.woken(now), now)]

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        times = [sending.wake_at() for sending in self.groups.values()]
        return min((at for at in times if at is not None), default=None)

    def _follow(self, sending: SendOnlyGroup, effects: Sequence[Any], now: float) -> list[Any]:
        """Turns its wishes into requests and events; passes the packet path's effects on."""
        out: list[Any] = []
        for effect in effects:
            if isinstance(effect, KeyWanted):
                out.append(self._ask(sending, effect, now))
            elif isinstance(effect, Changed):
                out.append(self._tell(sending, effect))
            else:
                out.append(effect)
        return out

    def _ask(self, sending: SendOnlyGroup, wanted: KeyWanted, now: float) -> Request:
        key = SealingKey.generate(sending.group.policy.hpke)
        message = authorizer_wire.RenewSenderRequest(
            group_id=sending.group.group_id,
            sender_id=wanted.sender_id,
            have_epoch=wanted.have_epoch,
            hpke_public_key=key.public,
        )
        token = RenewingSender(sending.group.group_id, wanted.sender_id, key, payload_hash(message), now)
        return Request(subjects.AUTHORIZER, "renew-sender", message, sending.authorizer, token, within=RENEWED_WITHIN)

    def _tell(self, sending: SendOnlyGroup, changed: Changed) -> Publish:
        message = wire.GroupChanged(
            group_id=sending.group.group_id,
            change=changed.what,
            epoch=sending.epoch,
            remark=changed.remark,
            switched_ms=round(changed.switched_at * 1000),
        )
        subject = subjects.subject(subjects.CSM, self._credentials.id.token, subjects.GROUP_CHANGED)
        return Publish(subject, message, str(self._credentials.id), changed.traceparent)
