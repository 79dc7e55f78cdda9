"""What a CSM's parts share: who they are, what they were handed, what an operator decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mcsa.keys import Random
from mcsa.telemetry import NullTelemetry, Telemetry
from mcsa.trust import Trust


@dataclass(frozen=True, slots=True)
class Setting:
    """`host` and `authorizer` are SPIFFE IDs. `floor`: key schemes that this host takes part in, best first, whatever
    a Coordinator offers."""

    host: str
    authorizer: str
    trust: Trust
    random: Random
    floor: Sequence[str] = ("bd", "central")
    records: str = "."
    telemetry: Telemetry = field(default_factory=NullTelemetry)


def following(last: int, now: float) -> int:
    """A number that rises, also across restarts that forget `last`: attempts, runs and key epochs never repeat."""
    return max(last + 1, int(now))
