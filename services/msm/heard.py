"""What is heard in a group whose policy authenticates sources: nothing counts before its source is proved. Sans-I/O.

    packet -> opened (AEAD) -> origin: who sealed it, or what a relaying agent wrote -> the mode's receiver half of it
           -> proved, at once or later (`tesla`) -> anti-replay windows move -> applications
           -> not its origin's -> counted, dropped, told as evidence

Two windows may move for a packet that was relayed: the origin's, and that of the agent's SPI which brought it. Neither
does for what fails, so that an insider that forges a SPI burns nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

from mcsa.errors import Rejected
from mcsa.esp.inbound import InboundAssociations, Unproved
from mcsa.esp.relayed import Origin
from mcsa.source_authentication import CAUSES, Claim, Content, Mode, Receiver, Setting, SourcePublicKey, Verdict
from mcsa.updates import PORT as UPDATE_PORT
from services.msm.events import GroupMessage, SetRoster, SourceForged
from services.msm.received import Received
from services.msm.relayed import RelayedPackets

TOLD_EACH = 1.0  # seconds between forgeries that are told with their evidence; all are counted
WOKEN_EACH = 1.0  # seconds


class _Brought(NamedTuple):
    """How a claim came: what has to be struck out for it, and what is shown where it is forged."""

    unproved: Unproved
    packet: bytes
    source: str
    relay: int | None


@dataclass(slots=True)
class _Voice:
    """One source, as the roster has it."""

    key: bytes
    receiver: Receiver


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
        self._group_id = group_id  # this group's own; the announced one's is in the setting
        self._mode = mode
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

    def open(self, packet: bytes | memoryview, source: str, now: float) -> list[Any]:
        """`Received`, `GroupMessage`, `SourceForged`: of this packet, or of earlier ones. `Rejected` as
        `InboundAssociations.open_unproved` and `RelayedPackets.look_at`; what fails after that is counted here."""
        unproved = self._inbound.open_unproved(packet, source)
        opened = unproved.opened
        if opened.sender_id == self._roster.authorizer and opened.destination_port == UPDATE_PORT:
            unproved.strike_out()  # what the Authorizer says is signed, and its numbers inside count
            self._counters["opened"] += 1
            return [GroupMessage(self._group_id, opened.payload)]
        relay = opened.sender_id if opened.sender_id in self._roster.relays else None
        origin, inside = Origin(opened.sender_id, opened.epoch, opened.sequence), opened.payload
        if relay is not None:
            origin, inside = self._relayed.look_at(inside, opened.destination_port, self._roster)
        voice = self._voice_of(origin.sender_id)
        if voice is None:
            raise Rejected("source-unknown")
        content = Content(opened.source_port, opened.destination_port, inside)
        claim = Claim(origin, content, _Brought(unproved, bytes(packet), source, relay))
        verdicts = voice.receiver.receive(claim, now)
        return self._carry(claim, verdicts) + self._judge(verdicts, now) + self._wake(now)

    def _carry(self, claim: Claim, verdicts: list[Verdict]) -> list[Any]:
        """As a relaying agent, on at once: what is proved later, and the mode's own."""
        own = next((verdict for verdict in verdicts if verdict.claim is claim), None)
        goes = own is None or (not own.cause and own.payload is None)
        return [_carried(claim)] if goes and self._roster.own_relay is not None else []

    def _voice_of(self, sender_id: int) -> _Voice | None:
        voice = self._voices.get(sender_id)
        key = self._roster.source_keys.get(sender_id)
        if voice is None and key is not None:
            try:
                receiver = self._mode.receiver(self._setting, sender_id, SourcePublicKey(key))
            except Rejected:  # the Authorizer checks them
                return None
            voice = self._voices[sender_id] = _Voice(key, receiver)
        return voice

    def _judge(self, verdicts: list[Verdict], now: float) -> list[Any]:
        out: list[Any] = []
        for verdict in verdicts:
            out += self._believe(verdict) if not verdict.cause else self._reject(verdict, now)
        return out

    def _believe(self, verdict: Verdict) -> list[Received]:
        claim, brought = verdict.claim, verdict.claim.token
        if not brought.unproved.strike_out() or (
            brought.relay is not None and not self._relayed.strike_out(claim.origin)
        ):
            self._counters["replay"] += 1
            return []
        self._counters["opened"] += 1
        if verdict.payload is None:  # the mode's own
            return []
        return [
            _carried(claim)._replace(payload=verdict.payload, is_heard=True, is_carried=self._mode.promises.at_once)
        ]

    def _reject(self, verdict: Verdict, now: float) -> list[SourceForged]:
        self._counters[verdict.cause] += 1
        if not CAUSES[verdict.cause] or now < self._told_at + TOLD_EACH:
            return []
        self._told_at = now
        brought = verdict.claim.token
        evidence = verdict.cause, brought.relay, brought.source, brought.packet
        return [SourceForged(self._group_id, verdict.claim.origin, *evidence)]

    def _wake(self, now: float) -> list[Any]:
        """Now and then what has waited for too long is given up."""
        if now < self._woken_at + WOKEN_EACH:
            return []
        self._woken_at = now
        return [item for voice in self._voices.values() for item in self._judge(voice.receiver.woken(now), now)]


def _carried(claim: Claim) -> Received:
    """For a relaying agent alone."""
    content, (sender_id, epoch, sequence) = claim.content, claim.origin
    ports = content.source_port, content.destination_port
    relay, authenticated = claim.token.relay, content.payload
    return Received(sender_id, *ports, b"", epoch, sequence, relay, authenticated, is_heard=False)
