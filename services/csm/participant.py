"""One local user in one conference: its streams, its state, its applications. Sans-I/O.

What is said goes out by `say` and comes back through `_delivered` like what others say, so that own and others'
messages are treated alike, recorded alike, and in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from mcsa.ckgds.evidence import verify_accusation
from mcsa.control.streams import ControlStreams, Delivered, Equivocated
from mcsa.endpoint import Count
from mcsa.errors import Refused, Rejected
from mcsa.identity import Credentials
from mcsa.record.writer import RecordWriter
from mcsa.statements import EVICTION_LABEL
from mcsa.v1 import csm_pb2 as wire
from mcsa.v1.authorizer_pb2 import Eviction
from mcsa.v1.conference_pb2 import (
    Accusation,
    ControlMessage,
    Ejection,
)
from mcsa.v1.types_pb2 import AccessControl, RosterEntry
from services.csm import transitions as life
from services.csm.asking import Effects
from services.csm.attached import Attached
from services.csm.coordination import Coordination
from services.csm.ending import Ending
from services.csm.events import Remember, SendControl, WriteRecord
from services.csm.keying import Keying
from services.csm.setting import Setting
from services.csm.terms import CONTROL_PORT, Terms

COORDINATOR_SILENCE = 20.0  # seconds; idle streams tell where they are each 5 s
RECORD_EACH = 2.0  # seconds between writings of a record that grows
RECORD_RATE = 1 << 20  # bytes a second at most: a long one is written less often
COORDINATORS_ONLY = frozenset({"call", "run_start", "activate", "abort", "ejection", "closing", "absence"})
OF_A_RUN = frozenset({"run_round", "run_confirmation", "activate", "abort", "opening"})


class LocalParticipant:
    """See the module. `sockets` are the local sockets of the groups, by name."""

    def __init__(
        self,
        setting: Setting,
        user: Credentials,
        user_key: wire.UserKey,
        terms: Terms,
        now: float,
        access: AccessControl | None = None,
    ) -> None:
        self.setting = setting
        self.user = user
        self.name = str(user.id)
        self.user_key = user_key
        self.terms = terms
        self.access = access
        self.state = life.ANNOUNCED
        self.reason = ""
        self.clash = ""
        self.trace: str | None = None
        self.ejected: set[str] = set()
        self.absent: set[str] = set()
        self.departed: set[str] = set()
        self.sockets: dict[str, str] = {}
        self.process_id = setting.random(16)
        self.streams = ControlStreams(
            terms.conference_id, user, self.process_id, setting.trust, self.permits, setting.random, now
        )
        self.record = RecordWriter(terms.conference_id, self.name)
        self.record.description(terms.statement, now)
        self.attached = Attached(self)
        self.keying = Keying(self)
        self.ending = Ending(self)
        self.coordination = Coordination(self, access or AccessControl()) if self.is_coordinator else None
        self._joined_at = now
        self._record_at: float | None = None
        self._record_size = 0
        self._handlers: dict[str, Callable[[Delivered, Any, float], Effects]] = {
            "introduction": self._introduced,
            "call": self.keying.called,
            "response": self._responded,
            "run_start": self.keying.run_started,
            "accusation": self._accused,
            "ejection": self._ejected,
            "process_announcement": self.attached.process_announced,
            "sealed": self.attached.sealed,
            "departure": self._departed,
            "closing": self.ending.closing,
            "absence": self._absent,
            **dict.fromkeys(OF_A_RUN, self.keying.run_message),
        }

    # ---- what it is

    @property
    def conference_id(self) -> bytes:
        """16 bytes."""
        return self.terms.conference_id

    @property
    def is_coordinator(self) -> bool:
        """True where this user convened."""
        return self.name == self.terms.coordinator

    @property
    def record_name(self) -> str:
        """The record's file; a restarted CSM begins another."""
        return f"{self.conference_id.hex()[:16]}-{self.user.id.name}-{self.process_id.hex()[:8]}.record"

    @property
    def ended(self) -> bool:
        """Closed or failed."""
        return self.state in life.ENDED

    def permits(self, user: str) -> bool:
        """Whether what this user says counts here: nobody's that was thrown out, and at the Coordinator of a closed
        conference only theirs that it named."""
        if user in self.ejected:
            return False
        return self.coordination is None or self.coordination.allows(user)

    def remembered(self) -> Remember:
        """For a CSM that restarts."""
        state = wire.RememberedParticipation(
            user=self.user_key,
            conference_id=self.conference_id,
            description=self.terms.statement,
            groups=self.terms.groups,
            access=self.access,
            ejected=sorted(self.ejected),
        )
        return Remember(self.conference_id, self.name, state)

    # ---- life

    def begin(self, now: float) -> Effects:
        """After the groups were joined."""
        return [self.remembered(), *self._delivered(self.streams.introduction, now)]

    def advance(self, event: str) -> bool:
        """The transition table's word; False where the event has no place in this state."""
        state = life.next_state(self.state, event)
        if state is None:
            return False
        self.state = state
        return True

    def fail(self, reason: str, now: float) -> Effects:
        """The conference has failed for this user."""
        if not self.advance(life.FAILED):
            return []
        self.reason = reason
        self.keying.stop()
        return [*self.changed(), *self.ending.failed(now)]

    def roster_changed(self, group_id: bytes, roster: Iterable[RosterEntry], now: float) -> Effects:
        """Who is in one of the groups, as the Authorizer says."""
        if self.coordination is None:
            return []
        self.coordination.listed[group_id] = {user for entry in roster for user in entry.users}
        if group_id != self.terms.control.group_id:
            return []
        users = {user for entry in roster if not entry.send_only for user in entry.users}
        return self.coordination.present_changed(users, now)

    def changed_clash(self, remark: str) -> Effects:
        """Another session uses an address of this one's; "" for none any more."""
        self.clash, before = remark, self.clash
        return self.changed() if remark != before else []

    def moved(self, addresses: Mapping[bytes, str]) -> Effects:
        """Groups have other addresses, as the Authorizer says; "" for those of which it said nothing."""
        elsewhere = False
        for group in self.terms.groups:
            address = addresses.get(group.group_id) or group.address
            elsewhere = elsewhere or address != group.address
            group.address = address
        return [self.remembered(), *self.changed()] if elsewhere else []

    def call_anew(self, now: float) -> Effects:
        """The Coordinator calls at once: somebody was thrown out."""
        return [] if self.coordination is None else self.coordination.call(now)

    def changed(self) -> Effects:
        """The state, for all applications."""
        return self.attached.tell(wire.ConferenceChanged(state=self.view()))

    # ---- saying and hearing

    def say(self, message: ControlMessage, now: float, traceparent: str | None = None) -> Effects:
        """A control message to all, this participant included."""
        message.traceparent = traceparent or message.traceparent or self.trace or ""
        try:
            said = self.streams.send(message, now)
        except Refused as refused:  # longer than a message may be: others made it so, and it must not be fatal
            return [Count(f"unsent.{refused.code}")]
        return self._delivered(said, now)

    def datagram_arrived(self, datagram: bytes, now: float) -> Effects:
        """A datagram of the control group."""
        try:
            found = self.streams.datagram_arrived(datagram, now)
        except Rejected as rejected:
            return [Count(f"rejected.control.{rejected.cause}")]
        effects: Effects = []
        for item in found:
            if isinstance(item, Delivered):
                effects += self._delivered(item, now)
            else:
                effects += self._equivocated(item, now)
        return [*effects, *self.ending.look(now)]

    def outgoing(self) -> Effects:
        """Datagrams that are to go out now."""
        group_id = self.terms.control.group_id
        return [SendControl(group_id, CONTROL_PORT, datagram) for datagram in self.streams.outgoing()]

    def _delivered(self, heard: Delivered, now: float) -> Effects:
        if self.ending.record_is_final:
            return []
        self.record.message(heard.fragments, now)
        self._record_at = self._record_at or now + max(RECORD_EACH, self._record_size / RECORD_RATE)
        kind = heard.message.WhichOneof("body") or ""
        if kind in COORDINATORS_ONLY and heard.user != self.terms.coordinator:
            return [Count(f"rejected.not-coordinator.{kind}")]
        effects: Effects = [] if self.coordination is None else self.coordination.heard(heard, now)
        handler = self._handlers.get(kind)
        return effects if handler is None else effects + handler(heard, getattr(heard.message, kind), now)

    def _introduced(self, heard: Delivered, _body: Any, now: float) -> Effects:
        self.departed.discard(heard.user)
        return [] if self.coordination is None else self.coordination.introduced(heard.user, heard.process_id, now)

    def _responded(self, heard: Delivered, body: Any, now: float) -> Effects:
        return [] if self.coordination is None else self.coordination.responded(heard, body, now)

    def _departed(self, heard: Delivered, _body: Any, now: float) -> Effects:
        self.departed.add(heard.user)
        return [] if self.coordination is None else self.coordination.departed(heard.user, now)

    def _absent(self, _heard: Delivered, body: Any, now: float) -> Effects:
        self.absent.add(body.user)
        return self.changed()

    # ---- cheaters and ejections

    def _equivocated(self, found: Equivocated, now: float) -> Effects:
        run = self.keying.run_number
        accusation = Accusation(run=run, cheater=found.user, kind="equivocation", evidence=found.evidence)
        return self.say(ControlMessage(accusation=accusation), now)

    def _accused(self, heard: Delivered, body: Accusation, now: float) -> Effects:
        try:
            verify_accusation(body, self.conference_id, self.keying.start, self.keying.certificates)
        except Rejected as rejected:
            return [Count(f"rejected.accusation.{rejected.cause}")]
        effects = self.keying.run_message(heard, body, now)
        return effects + ([] if self.coordination is None else self.coordination.proven(body.cheater, body.kind, now))

    def _ejected(self, _heard: Delivered, body: Ejection, now: float) -> Effects:
        try:
            signer = self.setting.trust.open_statement(body.eviction, EVICTION_LABEL, now, peers=True)
            eviction = Eviction.FromString(body.eviction.statement)
        except (Rejected, DecodeError):
            return [Count("rejected.ejection.signature")]
        if eviction.conference_id != self.conference_id or str(signer.id) != self.terms.coordinator:
            return [Count("rejected.ejection.meaning")]
        if eviction.subject == self.name:
            return self.fail(f"thrown out by the Coordinator: {eviction.reason or 'no reason given'}", now)
        self.ejected.add(eviction.subject)
        self.streams.forget(eviction.subject)
        return [self.remembered(), *self.changed()]

    # ---- time

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        if self.ending.ended:
            return None
        times = [self.streams.wake_at(), self.keying.wake_at(), self.ending.wake_at()]
        times += [self._record_at, self._silence_at()]
        times += [] if self.coordination is None else [self.coordination.wake_at()]
        return min((at for at in times if at is not None), default=None)

    def woken(self, now: float) -> Effects:
        """What is due."""
        if self.ending.ended:
            return []
        self.streams.due(now)
        effects = self.keying.due(now)
        if self.coordination is not None:
            effects += self.coordination.due(now)
        silence_at = self._silence_at()
        if silence_at is not None and now >= silence_at:
            sentence = f"the Coordinator was not heard in the control group for {COORDINATOR_SILENCE:g} s"
            effects += self.fail(f"{sentence}: does multicast reach this host? (mcsa doctor)", now)
        if self._record_at is not None and now >= self._record_at:
            self._record_at = None
            raw = self.record.serialised()
            self._record_size = len(raw)
            effects.append(WriteRecord(self.record_name, raw))
        return effects + self.ending.look(now)

    def _silence_at(self) -> float | None:
        """A conference that has a key goes on without its Coordinator; one that waits for its first does not."""
        if self.is_coordinator or self.ended or self.keying.key is not None:
            return None
        heard_at = self.streams.heard_at(self.terms.coordinator)
        return max(self._joined_at, heard_at or 0.0) + COORDINATOR_SILENCE

    # ---- for people

    def view(self) -> wire.ConferenceState:
        """The conference as applications and people see it."""
        keying = self.keying
        sockets: Mapping[str, str] = self.sockets
        return wire.ConferenceState(
            conference_id=self.conference_id,
            title=self.terms.description.title,
            state=self.state,
            reason=self.reason,
            user=self.name,
            coordinator=self.terms.coordinator,
            participants=keying.participants,
            key_epoch=keying.epoch,
            key_fingerprint="" if keying.key is None else keying.key.fingerprint,
            ckgds=keying.ckgds,
            groups=self.terms.groups,
            ejected=sorted(self.ejected),
            absent=sorted(self.absent),
            record_path=f"{self.setting.records}/{self.record_name}",
            sockets=sockets,
            clash=self.clash,
        )
