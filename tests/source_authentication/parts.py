"""A source and its receivers on a clock of their own, without any packets: claims go from one to the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mcsa.esp.relayed import Origin
from mcsa.policy import complete_policy
from mcsa.source_authentication import (
    Block,
    Claim,
    Clock,
    ClockBound,
    Content,
    Mode,
    Receiver,
    Setting,
    SourceKey,
    SourcePublicKey,
    Verdict,
)
from mcsa.v1.types_pb2 import GroupPolicy

START = 1_800_000_000.0
GROUP_ID = bytes(range(16))
SENDER_ID, EPOCH = 7, 1_800_000_000_000


def policy_of(mode: Mode, **fields: int) -> GroupPolicy:
    return complete_policy(GroupPolicy(source_authentication=mode.name, **fields))  # type: ignore[arg-type]


def clock_of(error: float = 0.0, doubt: float = 0.0) -> Clock:
    """A host's whose own clock is wrong by so many seconds, and that asked for so long."""
    return Clock(ClockBound.by(START + error - doubt, START + error, START - doubt / 2))


def setting_of(mode: Mode, clock: Clock | None = None, **fields: int) -> Setting:
    return Setting("example.org", GROUP_ID, policy_of(mode, **fields), clock or clock_of())


@dataclass
class Source:
    """One that speaks."""

    mode: Mode
    setting: Setting
    key: SourceKey = field(default_factory=SourceKey)
    sender_id: int = SENDER_ID
    epoch: int = EPOCH
    sequence: int = 0

    def __post_init__(self) -> None:
        self.sender = self.mode.sender(self.setting, self.key)

    @property
    def public(self) -> SourcePublicKey:
        return SourcePublicKey(self.key.public)

    def receiver(self, setting: Setting | None = None) -> Receiver:
        return self.mode.receiver(setting or self.setting, self.sender_id, self.public)

    def say(self, payloads: Sequence[bytes], now: float, ports: tuple[int, int] = (5004, 5006)) -> list[Claim]:
        """What goes out at once."""
        return self.seal(self.sender.take([Content(*ports, payload) for payload in payloads], now))

    def woken(self, now: float) -> list[Claim]:
        return self.seal(self.sender.woken(now))

    def seal(self, blocks: Sequence[Block]) -> list[Claim]:
        claims = []
        for block in blocks:
            first = self.sequence + 1
            self.sequence += len(block.contents)
            origins = [Origin(self.sender_id, self.epoch, number) for number in range(first, self.sequence + 1)]
            for origin, content, inside in zip(
                origins, block.contents, self.sender.authenticate(block, origins), strict=True
            ):
                claims.append(Claim(origin, content.source_port, content.destination_port, inside))
        return claims

    def speak(self, payloads: Sequence[bytes], seconds: float = 0.5) -> list[tuple[float, Claim]]:
        """All of them one after another in that time, and what follows by itself: when each claim goes out."""
        out, at = [], START
        step = seconds / len(payloads)
        for payload in payloads:
            out += self._until(at)
            out += [(at, claim) for claim in self.say([payload], at)]
            at += step
        return out + self._until(at + 10)

    def _until(self, end: float) -> list[tuple[float, Claim]]:
        out = []
        while (wake_at := self.sender.wake_at()) is not None and wake_at <= end:
            out += [(wake_at, claim) for claim in self.woken(wake_at)]
        return out


def hear(receiver: Receiver, claims: Sequence[tuple[float, Claim]], delay: float = 0.002) -> list[Verdict]:
    """All verdicts, in order of arrival, and after a long silence."""
    verdicts = [verdict for at, claim in claims for verdict in receiver.receive(claim, at + delay)]
    last = claims[-1][0] if claims else START
    return verdicts + receiver.woken(last + 100)


def proved(verdicts: Sequence[Verdict]) -> list[bytes]:
    """What an application is given."""
    return [verdict.payload for verdict in verdicts if not verdict.cause and verdict.payload is not None]


def changed(claim: Claim, **fields: int) -> Claim:
    """A claim of the same contents with another origin or other ports."""
    origin = claim.origin._replace(**{name: value for name, value in fields.items() if name in Origin._fields})
    ports = {name: value for name, value in fields.items() if name in Claim._fields}
    return claim._replace(origin=origin, **ports)  # type: ignore[arg-type]


def with_payload(claim: Claim, payload: bytes) -> Claim:
    """Other bytes in the same place."""
    return claim._replace(payload=payload)
