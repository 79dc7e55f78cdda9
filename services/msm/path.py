"""A group's packet path without its sockets: which associations there are, what is held, what is counted.

The shell puts sockets and threads around it, the simulator its own network. One thread seals, one opens, and the
control side changes what both use by replacing it, never by changing it in place.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mcsa.errors import Rejected
from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.inbound import InboundAssociations, Opened
from mcsa.esp.outbound import OutboundAssociation, SealedBatch, SequenceExhausted
from mcsa.esp.slab import Slab
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey
from mcsa.updates import PORT as UPDATE_PORT
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.events import (
    DropEpoch,
    GroupMessage,
    InstallEpoch,
    PauseSending,
    ResumeSending,
    SequenceLow,
    SetRoster,
    SwitchSending,
    UnknownEpochSeen,
)

HOLD_FOR = 0.5  # seconds that a packet of an epoch not yet known is kept: an ejection switches senders at once
HELD_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Received:
    """Plaintext for the applications."""

    sender_id: int
    source_port: int
    destination_port: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Held:
    datagram: bytes
    source: str
    until: float


class GroupPath:
    """See the module."""

    def __init__(self, domain: str, group: GroupDescription) -> None:
        self.group = group
        self._domain = domain
        self._suite = suite_named(group.policy.suite)
        self._keys: dict[int, GroupKey] = {}
        self._inbound = InboundAssociations(domain, group.group_id, self._suite, group.policy.replay_window)
        self._outbound: OutboundAssociation | None = None
        self._authorizer: int | None = None
        self._paused = False
        self._low_told = False
        self._held: deque[_Held] = deque(maxlen=HELD_AT_ONCE)
        self.counters: Counter[str] = Counter()
        self.switched: set[tuple[int, int]] = set()

    # ---- control

    def carry_out(self, effect: Any, now: float) -> list[Any]:
        """One of the core's effects on this group; returns what the core must hear, and `Received`."""
        match effect:
            case InstallEpoch():
                self._keys = {**self._keys, effect.epoch: effect.key}
                self._inbound.install(effect.epoch, effect.key)
                return self._retry(now)
            case DropEpoch():
                self._keys = {epoch: key for epoch, key in self._keys.items() if epoch != effect.epoch}
                self._inbound.drop(effect.epoch)
            case SetRoster():
                self._authorizer = effect.authorizer
                self._inbound.set_roster(effect.addresses, () if effect.own is None else (effect.own,))
                return self._retry(now)
            case SwitchSending():
                self._switch(effect)
            case PauseSending():
                self._paused = True
            case ResumeSending():
                self._paused = False
            case _:
                raise TypeError(effect)
        return []

    def _switch(self, effect: SwitchSending) -> None:
        if (effect.epoch, effect.sender_id) in self.switched:
            raise ValueError("an outbound association is installed once, never again")
        self.switched.add((effect.epoch, effect.sender_id))
        key = derive_traffic_key(
            self._keys[effect.epoch], self._domain, self.group.group_id, effect.epoch, self._suite, effect.sender_id
        )
        self._outbound = OutboundAssociation(key)
        self._paused = self._low_told = False

    # ---- packets

    def seal(self, payload: bytes, source_port: int, destination_port: int) -> bytes | None:
        """The ESP packet, or None where nothing may be sent now; counted either way."""
        outbound = self._outbound
        if outbound is None or self._paused:
            self.counters["unsent.paused"] += 1
            return None
        try:
            packet = outbound.seal(payload, source_port, destination_port)
        except SequenceExhausted:
            self.counters["unsent.exhausted"] += 1
            return None
        self.counters["sent"] += 1
        return packet

    def seal_batches(self, payloads: Sequence[bytes], source_port: int, destination_port: int) -> Iterator[SealedBatch]:
        """Many at once, in as few batches as their sizes allow; send each before asking for the next."""
        outbound = self._outbound
        if outbound is None or self._paused:
            self.counters["unsent.paused"] += len(payloads)
            return
        try:
            yield from outbound.seal_batches(payloads, source_port, destination_port)
        except SequenceExhausted:
            self.counters["unsent.exhausted"] += len(payloads)
            return
        self.counters["sent"] += len(payloads)

    def sequence_low(self) -> list[SequenceLow]:
        """Once for each association whose sequence numbers run out."""
        if self._outbound is None or self._low_told or not self._outbound.nearly_exhausted:
            return []
        self._low_told = True
        return [SequenceLow(self.group.group_id)]

    def open(self, datagram: bytes, source: str, now: float) -> list[Any]:
        """`Received`, `GroupMessage` or `UnknownEpochSeen`; nothing where the packet was dropped, which is counted."""
        try:
            opened = self._inbound.open(datagram, source)
        except Rejected as rejected:
            self.counters[rejected.cause] += 1
            if rejected.cause != "unknown-epoch":
                return []
            self.hold(bytes(datagram), source, now)
            return [UnknownEpochSeen(self.group.group_id)]
        return [self._deliver(opened)]

    def open_batch(self, slab: Slab, length: int, segment_size: int, source: str, now: float) -> list[Any]:
        """The same for what UDP_GRO handed over in one piece."""
        batch = self._inbound.open_batch(slab, length, segment_size, source)
        for cause in batch.rejected:
            self.counters[cause] += 1
        for packet in batch.early:
            self.hold(packet, source, now)
        found: list[Any] = [UnknownEpochSeen(self.group.group_id)] if batch.early else []
        for run in batch.runs:
            ports = run.source_port, run.destination_port
            found += [self._deliver(Opened(run.sender_id, run.epoch, 0, *ports, payload)) for payload in run.payloads]
        return found

    def hold(self, datagram: bytes, source: str, now: float) -> None:
        """A packet of an epoch that may come; kept for a moment."""
        self._held.append(_Held(datagram, source, now + HOLD_FOR))

    def _deliver(self, opened: Opened) -> Received | GroupMessage:
        self.counters["opened"] += 1
        if opened.sender_id == self._authorizer and opened.destination_port == UPDATE_PORT:
            return GroupMessage(self.group.group_id, bytes(opened.payload))
        return Received(opened.sender_id, opened.source_port, opened.destination_port, bytes(opened.payload))

    def _retry(self, now: float) -> list[Any]:
        """Packets that waited for an epoch which may have come."""
        held, self._held = self._held, deque(maxlen=HELD_AT_ONCE)
        out: list[Any] = []
        for packet in held:
            if now > packet.until:
                self.counters["held-too-long"] += 1
                continue
            try:
                opened = self._inbound.open(packet.datagram, packet.source)
            except Rejected as rejected:
                if rejected.cause == "unknown-epoch":
                    self._held.append(packet)
                else:
                    self.counters[rejected.cause] += 1
                continue
            self.counters["held-then-opened"] += 1
            out.append(self._deliver(opened))
        return out
