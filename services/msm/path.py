"""A group's packet path without its sockets: which associations there are, what is held, what is counted.

The shell puts sockets and threads around it, the simulator its own network. One thread seals, one opens, and the
control side changes what both use by replacing it, never by changing it in place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mcsa.errors import Rejected
from mcsa.esp.checksum import InnerChecksum, inner_checksum
from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.inbound import InboundAssociations, Opened, Run
from mcsa.esp.inner import MAX_PAYLOAD
from mcsa.esp.outbound import SealedBatch
from mcsa.esp.relayed import ORIGIN_SIZE
from mcsa.esp.slab import Slab
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey
from mcsa.source_authentication import Clock, Setting, mode_named
from mcsa.updates import PORT as UPDATE_PORT
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.events import (
    DropEpoch,
    GroupMessage,
    InstallEpoch,
    PauseSending,
    ResumeSending,
    SendUnder,
    SequenceLow,
    SetClock,
    SetRoster,
    SetSource,
    SwitchSending,
    UnknownEpochSeen,
)
from services.msm.heard import Heard, PacketsOf
from services.msm.held import HeldPackets
from services.msm.received import Received, ReceivedRun
from services.msm.relayed import RelayedPackets
from services.msm.said import Batch, Said, Told
from services.msm.sending import Sending

__all__ = ["GroupPath", "Outgoing", "Received"]

HINT_EVERY = 0.1  # seconds between two `UnknownEpochSeen`; the membership makes at most one repair a second of them


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Packets to send."""

    packets: SealedBatch
    told: Callable[[], list[Received]]

    @property
    def heard(self) -> list[Received]:
        """What the others hear by them: a relaying agent's host relays that too."""
        return self.told()


class GroupPath:
    """See the module. What is dropped is counted by cause: `mcsa.esp.inbound`'s, `RelayedPackets`' and `unsent`; where
    the policy authenticates sources, those of `Heard` and `Said` too. There what is to be sent goes by `say` alone, and
    comes out at once, or by `woken` when its block is full of time (`wake_at`).

    A datagram that arrives is counted once, as `opened` or by a cause; one of an unknown epoch that is opened later is
    in both, and in `held-then-opened`. What became of the others is told by `held-too-long`, `held-too-many` and
    `held-then-rejected`.
    """

    def __init__(self, domain: str, group: GroupDescription) -> None:
        self.group = group
        self.own_address = ""  # where this host's packets come from; of IPv6 groups, before anything is sent
        self._domain = domain
        self._suite = suite_named(group.policy.suite)
        self._keys: dict[int, GroupKey] = {}
        self._mode = mode_named(group.policy.source_authentication)
        window, proved = group.policy.replay_window, not self._mode.promises.authenticates
        self._inbound = InboundAssociations(domain, group.group_id, self._suite, window, moves_windows=proved)
        self._relayed = RelayedPackets(group.policy.replay_window)
        self._roster = SetRoster(group.group_id, {}, None, None)
        self._hinted_at = float("-inf")
        self.counters: Counter[str] = Counter()
        self._held = HeldPackets(self.counters)
        self._sending = Sending(self.counters)
        self._relaying = Sending(self.counters, "relaying")
        self._clock = Clock()
        self._said: Said | None = None  # where sources are authenticated, and there is a key of our own
        self._heard: Heard | None = None  # likewise, and there is a roster
        self.is_paused = False  # an update may have been kept from this host: who was thrown out may be heard here yet

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
                self._roster = effect
                own = [sender_id for sender_id in (effect.own, effect.own_relay) if sender_id is not None]
                self._set_sources(effect)
                self._inbound.set_roster(effect.addresses, own)
                return self._retry(now)
            case SetSource():
                if self._said is None:
                    self._said = Said(self._mode, self._setting(effect.announced), self._sending, self._unsent)
                self._said.set_source(effect.sender_id, effect.key)
            case SetClock():
                self._clock.bound = effect.bound
            case SwitchSending():
                self._switch(effect)
            case SendUnder():  # of a host that is no member: nothing is installed that opens
                self._sending.switch(effect.epoch, effect.sender_id, effect.key, self._checksum())
                self.is_paused = False
            case PauseSending():
                self.is_paused = True
                self._sending.paused = self._relaying.paused = True
            case ResumeSending():
                self.is_paused = False
                self._sending.paused = self._relaying.paused = False
            case _:
                raise TypeError(effect)
        return []

    def _switch(self, effect: SwitchSending) -> None:
        key = derive_traffic_key(
            self._keys[effect.epoch], self._domain, self.group.group_id, effect.epoch, self._suite, effect.sender_id
        )
        sending = self._relaying if effect.relaying else self._sending
        sending.switch(effect.epoch, effect.sender_id, key, self._checksum())
        self.is_paused = False

    def _checksum(self) -> InnerChecksum | None:
        return inner_checksum(self.own_address, self.group.address)

    def _set_sources(self, roster: SetRoster) -> None:
        if not self.authenticates_sources:
            return
        if self._heard is None:
            ways = self._setting(roster.announced), self._inbound, self._relayed
            self._heard = Heard(self.group.group_id, self._mode, *ways, self.counters)
        self._heard.set_roster(roster)

    def _setting(self, announced: bytes) -> Setting:
        return Setting(self._domain, announced, self.group.policy, self._clock)

    def _unsent(self, cause: str, amount: int) -> None:
        self.counters[cause] += amount

    @property
    def authenticates_sources(self) -> bool:
        """By the group's policy."""
        return self._mode.promises.authenticates

    @property
    def goes_by_clock(self) -> bool:
        """Whether what is believed and said depends on what is known of the Authorizer's clock."""
        return self._clock.bound is not None and self._mode.needs_clock

    def forget_clock(self) -> None:
        """Until the next `SetClock`."""
        self._clock.bound = None
        self.counters["clock-set"] += 1

    @property
    def source_overhead(self) -> int:
        """Bytes by which payloads get longer because of it, at most."""
        return self._mode.overhead(self.group.policy)

    def address_of(self, packet: Received) -> str | None:
        """Where it came from, as the roster says: its sender's address, or, of another subgroup's, the agent's."""
        addresses = self._roster.addresses
        return addresses.get(packet.sender_id) or addresses.get(-1 if packet.relay is None else packet.relay)

    @property
    def largest_payload(self) -> int:
        """Bytes that an application's payload may have."""
        return MAX_PAYLOAD - (ORIGIN_SIZE + self.source_overhead if self.authenticates_sources else 0)

    def has_sender(self, sender_id: int) -> bool:
        """Whether this is a sender ID of this group's, whoever's: what it says need not be relayed into it."""
        return sender_id in self._roster.addresses

    # ---- packets

    def say(self, payloads: Sequence[bytes], source_port: int, destination_port: int, now: float) -> Iterator[Outgoing]:
        """What is to be sent now, of this or of what was said before; send each before asking for the next. Under any
        policy; where it authenticates no sources, `seal_batches` does the same, faster."""
        ports = source_port, destination_port
        if self.authenticates_sources:
            yield from _outgoing([] if self._said is None else self._said.say(payloads, *ports, now))
            return
        for payload in payloads:
            sealed = self.seal_and_hear(payload, *ports)
            if sealed is not None:
                packet, heard = sealed
                yield Outgoing(SealedBatch(memoryview(packet), len(packet)), partial(list, (heard,)))

    def wake_at(self) -> float | None:
        """When `woken` is wanted, by who seals."""
        return None if self._said is None else self._said.wake_at()

    def woken(self, now: float) -> Iterator[Outgoing]:
        """What is to be sent because of the time: blocks that wait for no more packets, keys to be disclosed."""
        return _outgoing([] if self._said is None else self._said.woken(now))

    def seal(self, payload: bytes, source_port: int, destination_port: int) -> bytes | None:
        """The ESP packet, or None where nothing may be sent now; counted either way."""
        sealed = self._sending.seal(payload, source_port, destination_port)
        return None if sealed is None else sealed.packet

    def seal_and_hear(self, payload: bytes, source_port: int, destination_port: int) -> tuple[bytes, Received] | None:
        """The same, and what the others will have heard: where this host is a relaying agent, it relays that too."""
        sealed = self._sending.seal(payload, source_port, destination_port)
        if sealed is None:
            return None
        ports = source_port, destination_port
        return sealed.packet, Received(sealed.sender_id, *ports, payload, sealed.epoch, sealed.sequence)

    def seal_batches(self, payloads: Sequence[bytes], source_port: int, destination_port: int) -> Iterator[SealedBatch]:
        """Many at once, in as few batches as their sizes allow; send each before asking for the next."""
        return self._sending.seal_batches(payloads, source_port, destination_port)

    def relay_batches(
        self, payloads: Sequence[bytes], source_port: int, destination_port: int
    ) -> Iterator[SealedBatch]:
        """Likewise what a relaying agent carries into this group, each payload with its origin in front."""
        return self._relaying.seal_batches(payloads, source_port, destination_port)

    def sequence_low(self) -> list[SequenceLow]:
        """Once for each association whose sequence numbers run out."""
        low = [sending for sending in (self._sending, self._relaying) if sending.runs_low()]
        return [SequenceLow(self.group.group_id) for _ in low]

    def open(self, datagram: bytes | memoryview, source: str, now: float) -> list[Any]:
        """`Received`, `GroupMessage`, `UnknownEpochSeen` or `SourceForged`; nothing where the packet was dropped, which
        is counted."""
        try:
            return self._open(datagram, source, now)
        except Rejected as rejected:
            self.counters[rejected.cause] += 1
            if rejected.cause != "unknown-epoch":
                return []
            self.hold(bytes(datagram), source, now)
            return self._hint(now)

    def _open(self, datagram: bytes | memoryview, source: str, now: float) -> list[Any]:
        run = _run_of(self._inbound.open(datagram, source))
        return (
            self._deliver(run) if self._heard is None else self._heard.take(run, source, now, lambda _: bytes(datagram))
        )

    def open_batch(self, slab: Slab, length: int, segment_size: int, source: str, now: float) -> list[Any]:
        """The same for what UDP_GRO handed over in one piece; many packets that are alike are one `ReceivedRun`."""
        batch = self._inbound.open_batch(slab, length, segment_size, source)
        for cause in batch.rejected:
            self.counters[cause] += 1
        for packet in batch.early:
            self.hold(packet, source, now)
        found = self._hint(now) if batch.early else []
        if self._heard is not None:
            packets = PacketsOf(slab.view[:length], segment_size)
            return found + [item for run in batch.runs for item in self._heard.take(run, source, now, packets.of(run))]
        for run in batch.runs:
            found += self._deliver(run)
        return found

    def hold(self, datagram: bytes, source: str, now: float) -> None:
        """A packet of an epoch that may come."""
        self._held.hold(datagram, source, now)

    def _hint(self, now: float) -> list[Any]:
        """Each hint costs the event loop a call, and anybody can send what looks like an unknown epoch."""
        if 0 <= now - self._hinted_at < HINT_EVERY:
            return []
        self._hinted_at = now
        return [UnknownEpochSeen(self.group.group_id)]

    def _deliver(self, run: Run) -> list[Any]:
        self.counters["opened"] += len(run.payloads)
        sender_id, source_port, destination_port = run.sender_id, run.source_port, run.destination_port
        if sender_id in self._roster.relays:
            return self._deliver_relayed(run)
        if sender_id == self._roster.authorizer and destination_port == UPDATE_PORT:
            return [GroupMessage(self.group.group_id, payload) for payload in run.payloads]
        if len(run.payloads) > 1:
            return [ReceivedRun(run)]
        return [Received(sender_id, source_port, destination_port, run.payloads[0], run.epoch, run.first_sequence)]

    def _deliver_relayed(self, run: Run) -> list[Received]:
        ports, delivered = (run.source_port, run.destination_port), []
        for inside in run.payloads:
            try:
                origin, payload = self._relayed.open(inside, run.destination_port, self._roster)
            except Rejected as rejected:
                self.counters[rejected.cause] += 1
            else:
                delivered.append(
                    Received(origin.sender_id, *ports, payload, origin.epoch, origin.sequence, run.sender_id)
                )
        return delivered

    def _retry(self, now: float) -> list[Any]:
        """Packets that waited for an epoch which may have come."""
        out: list[Any] = []
        for packet in self._held.take(now):
            try:
                found = self._open(packet.datagram, packet.source, now)
            except Rejected as rejected:
                if rejected.cause == "unknown-epoch":
                    self._held.put_back(packet)
                else:
                    self.counters["held-then-rejected"] += 1
                continue
            self.counters["held-then-opened"] += 1
            out += found
        return out


def _run_of(opened: Opened) -> Run:
    sender_id, epoch, sequence, source_port, destination_port, payload = opened
    return Run(sender_id, epoch, sequence, source_port, destination_port, [payload])


def _outgoing(batches: Iterable[Batch]) -> Iterator[Outgoing]:
    for batch in batches:
        yield Outgoing(batch.packets, partial(_all_heard, batch))


def _all_heard(batch: Batch) -> list[Received]:
    return [_heard_of(told) for told in batch.told]


def _heard_of(told: Told) -> Received:
    """What the others hear of it: with its proof, as a relaying agent carries it."""
    sender_id, epoch, sequence = told.origin
    source_port, destination_port, payload = told.content
    ports, is_heard = (source_port, destination_port), not told.is_notice
    return Received(sender_id, *ports, payload, epoch, sequence, None, told.authenticated, is_heard)
