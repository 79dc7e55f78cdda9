"""What is heard in a group whose policy authenticates sources: nothing counts before its source is proved. Sans-I/O.

    packet -> opened (AEAD) -> origin: who sealed it, or what a relaying agent wrote -> the mode's receiver half of it
           -> proved, at once or later (`tesla`) -> anti-replay windows move -> applications
           -> not its origin's -> counted, dropped, told as evidence

Two windows may move for a packet that was relayed: the origin's, and that of the agent's SPI which brought it. Neither
does for what fails, so that an insider that forges a SPI burns nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mcsa.errors import Rejected
from mcsa.esp.inbound import InboundAssociations, Run
from mcsa.esp.relayed import Origin
from mcsa.esp.replay import ReplayWindow
from mcsa.esp.spi import spi_for
from mcsa.source_authentication import CAUSES, Claim, Mode, Prover, Receiver, Setting, SourcePublicKey, Verdict
from mcsa.source_authentication.at_once import AtOnce
from mcsa.updates import PORT as UPDATE_PORT
from services.msm.events import GroupMessage, SetRoster, SourceForged
from services.msm.received import Received, ReceivedRun
from services.msm.relayed import RelayedPackets

TOLD_EACH = 1.0  # seconds between forgeries that are told with their evidence; all are counted
WOKEN_EACH = 1.0  # seconds


PacketOf = Callable[[int], bytes]
"""A packet of a run as received, by its sequence number."""


@dataclass(frozen=True, slots=True)
class _Way:
    """How a run came: what is struck out for it once it is proved, and what is shown where it is forged."""

    window: ReplayWindow  # of the SA that brought it
    source: str  # outer address
    relay: int | None  # the agent's sender ID


@dataclass(slots=True)
class _Voice:
    """One source, as the roster has it."""

    key: bytes
    receiver: Receiver
    prover: Prover | None  # where it can tell at once


class Heard:
    """See the module. One thread's, but for `set_roster`, which the same thread calls in between.

    Beside the mode's causes (`mcsa.source_authentication.CAUSES`) it counts `source-unknown`: in the roster without a
    key that could prove anything.
    """

    def __init__(
        self,
        group_id: bytes,
        mode: Mode,
        setting: Setting,
        inbound: InboundAssociations,
        relayed: RelayedPackets,
        counters: Counter[str],
    ) -> None:
        """`inbound` moves no windows."""
        self._group_id = group_id  # this group's own; the announced one's is in the setting
        self._mode = mode
        self._at_once = mode.promises.at_once
        self._setting = setting
        self._inbound = inbound
        self._relayed = relayed
        self._counters = counters
        self._roster = SetRoster(b"", {}, None, None)
        self._voices: dict[int, _Voice] = {}
        self._told_at = self._woken_at = 0.0

    def set_roster(self, roster: SetRoster) -> None:
        """Sources that are gone, or have registered anew, are forgotten with all that waits for their proof."""
        for sender_id, voice in list(self._voices.items()):
            if roster.source_keys.get(sender_id) != voice.key:
                self._voices.pop(sender_id).receiver.close()
        self._roster = roster

    def take(self, run: Run, source: str, now: float, packet_of: PacketOf) -> list[Any]:
        """`Received`, `ReceivedRun`, `GroupMessage`, `SourceForged`: what comes of packets that have just opened, or of
        earlier ones. All of them are counted, at once or when they are decided."""
        sender_id, roster = run.sender_id, self._roster
        relay = sender_id if sender_id in roster.relays else None
        way = _Way(self._inbound.window_of(run.epoch, sender_id), source, relay)
        if sender_id == roster.authorizer and run.destination_port == UPDATE_PORT:
            return self._take_messages(run, way)
        voice = self._voices.get(sender_id)
        if voice is not None and voice.prover is not None and relay is None and roster.own_relay is None:
            out = self._take_at_once(run, way, voice.prover, now, packet_of)
        else:
            out = [
                item
                for number, inside in enumerate(run.payloads, run.first_sequence)
                for item in self._take_one(run, number, inside, way, now, packet_of)
            ]
        return out if now < self._woken_at + WOKEN_EACH else out + self._wake(now)

    def _take_messages(self, run: Run, way: _Way) -> list[Any]:
        """What the Authorizer says is signed, and its numbers inside count."""
        for number in range(run.first_sequence, run.first_sequence + len(run.payloads)):
            way.window.take(number)
        self._counters["opened"] += len(run.payloads)
        return [GroupMessage(self._group_id, payload) for payload in run.payloads]

    def _take_at_once(self, run: Run, way: _Way, prover: Prover, now: float, packet_of: PacketOf) -> list[Any]:
        """What a source that is known sealed itself, in a mode that can tell: the same as below, without detours."""
        first = Origin(run.sender_id, run.epoch, run.first_sequence)
        found = prover.prove_all(first, run.source_port, run.destination_port, run.payloads)
        good = [payload for payload in found if isinstance(payload, bytes)]
        if len(good) == len(found) and way.window.take_all(first.sequence, first.sequence + len(good) - 1):
            self._counters["opened"] += len(good)
            return _together(run, first.sequence, good)
        out: list[Any] = []
        for number, payload in enumerate(found, first.sequence):
            if isinstance(payload, str):
                out += self._reject(first._replace(sequence=number), payload, (way, packet_of(number)), now)
            elif way.window.take(number):
                self._counters["opened"] += 1
                out += _together(run, number, [payload])
            else:
                self._counters["replay"] += 1
        return out

    def _take_one(self, run: Run, number: int, inside: bytes, way: _Way, now: float, packet_of: PacketOf) -> list[Any]:
        origin = Origin(run.sender_id, run.epoch, number)
        try:
            if way.relay is not None:
                origin, inside = self._relayed.look_at(inside, run.destination_port, self._roster)
            voice = self._voices.get(origin.sender_id) or self._voice_of(origin.sender_id)
        except Rejected as rejected:
            self._counters[rejected.cause] += 1
            return []
        token = way, number, packet_of(number)
        claim = Claim(origin, run.source_port, run.destination_port, inside, token)
        verdicts = voice.receiver.receive(claim, now)
        carried = [] if self._roster.own_relay is None else _to_be_carried(claim, verdicts)
        return carried + self._judge(verdicts, now)

    def _voice_of(self, sender_id: int) -> _Voice:
        key = self._roster.source_keys.get(sender_id)
        if key is None:
            raise Rejected("source-unknown")
        receiver = self._mode.receiver(self._setting, sender_id, SourcePublicKey(key))  # the Authorizer checked it
        prover = receiver if isinstance(receiver, AtOnce) else None
        voice = self._voices[sender_id] = _Voice(key, receiver, prover)
        return voice

    def _judge(self, verdicts: Iterable[Verdict], now: float) -> list[Any]:
        out: list[Any] = []
        for claim, payload, cause in verdicts:
            origin, source_port, destination_port, authenticated, (way, number, packet) = claim
            if cause:
                out += self._reject(origin, cause, (way, packet), now)
            elif payload is None:  # the mode's own: it moves no window, since what it proves was sent before it
                self._counters["opened"] += 1
            elif way.window.take(number) and (way.relay is None or self._relayed.strike_out(origin)):
                self._counters["opened"] += 1
                ports, numbers = (source_port, destination_port), origin[1:]
                heard = Received(origin.sender_id, *ports, payload, *numbers, way.relay, authenticated)
                out.append(heard if self._at_once else heard._replace(is_carried=False))
            else:
                self._counters["replay"] += 1
        return out

    def _reject(self, origin: Origin, cause: str, brought: tuple[_Way, bytes], now: float) -> list[SourceForged]:
        self._counters[cause] += 1
        if not CAUSES[cause] or now < self._told_at + TOLD_EACH:
            return []
        self._told_at = now
        way, packet = brought
        return [SourceForged(self._group_id, origin, cause, way.relay, way.source, packet)]

    def _wake(self, now: float) -> list[Any]:
        """Now and then what has waited for too long is given up."""
        self._woken_at = now
        return [item for voice in self._voices.values() for item in self._judge(voice.receiver.woken(now), now)]


def _together(run: Run, first: int, payloads: list[bytes]) -> list[Any]:
    """A part of a run that is proved, from this number on."""
    rest = run.source_port, run.destination_port
    if len(payloads) > 1:
        return [ReceivedRun(Run(run.sender_id, run.epoch, first, *rest, payloads))]
    return [Received(run.sender_id, *rest, payload, run.epoch, first) for payload in payloads]


class PacketsOf:
    """Packets that arrived together, by SPI and number; looked through only where one is asked for."""

    def __init__(self, view: memoryview, segment_size: int) -> None:
        self._view = view
        self._segment_size = segment_size
        self._found: dict[bytes, bytes] | None = None

    def of(self, run: Run) -> PacketOf:
        """Of this run; empty where two have one number, so that it can't be told which was meant."""
        spi = spi_for(run.epoch, run.sender_id).to_bytes(4, "big")
        return lambda number: self._packets.get(spi + number.to_bytes(4, "big"), b"")

    @property
    def _packets(self) -> dict[bytes, bytes]:
        if self._found is None:
            self._found = found = {}
            for start in range(0, len(self._view), self._segment_size):
                packet = bytes(self._view[start : start + self._segment_size])
                found[packet[:8]] = b"" if packet[:8] in found else packet
        return self._found


def _to_be_carried(claim: Claim, verdicts: Iterable[Verdict]) -> list[Any]:
    """For a relaying agent alone, at once: what is proved later, and the mode's own."""
    own = next((verdict for verdict in verdicts if verdict.claim is claim), None)
    if own is not None and (own.cause or own.payload is not None):
        return []
    origin, source_port, destination_port, authenticated, (way, _, _) = claim
    ports, (sender_id, epoch, sequence) = (source_port, destination_port), origin
    return [Received(sender_id, *ports, b"", epoch, sequence, way.relay, authenticated, is_heard=False)]
