r"""What a host knows of the Authorizer's clock: between which two times it is (RFC 4082, section 3.3.2, indirect).

    host's clock         asked_at ---------------------- answered_at
    Authorizer's clock            \----- time ----------/

Whoever asks and is answered with the Authorizer's time, in an envelope that it signed, knows two things for sure: when
it asked, the Authorizer's clock was not later than `time`; when the answer came, it was not earlier. The network can
delay the one or the other and so widen the bound; it can't make it wrong. A source counts its TESLA intervals by the
earliest time that it may be at the Authorizer, a receiver judges them by the latest: so what a receiver takes for safe
is safe whatever the hosts' own clocks say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

DRIFT = 500e-6  # of the seconds since: clocks that NTP steers are slewed by no more than that (RFC 5905, section 11.3)
ROUNDING = 0.001  # seconds: the Authorizer says milliseconds
SAMPLES = 4  # kept; the best of them counts


class Sample(NamedTuple):
    """One question and its answer, in seconds since 1970."""

    asked_at: float  # by the own clock
    answered_at: float  # by the own clock
    time: float  # by the Authorizer's


@dataclass(frozen=True, slots=True)
class ClockBound:
    """Immutable; one sample at least, the newest last."""

    samples: tuple[Sample, ...]

    @classmethod
    def by(cls, asked_at: float, answered_at: float, time: float) -> ClockBound:
        """Of one question."""
        return cls((Sample(asked_at, answered_at, time),))

    def refined(self, other: ClockBound) -> ClockBound:
        """With newer samples, or those alone where both can't be true: then somebody's clock was set meanwhile."""
        now = other.samples[-1].answered_at
        both = ClockBound((*self.samples, *other.samples)[-SAMPLES:])
        latest, earliest = both.latest(now), both.earliest(now)
        return other if latest is None or earliest is None or earliest > latest else both

    def latest(self, now: float) -> float | None:
        """The Authorizer's clock is not later than this at `now` of the own one; None where that was set back."""
        if now < self.samples[-1].answered_at:
            return None
        return min(each.time + (now - each.asked_at) * (1 + DRIFT) + ROUNDING for each in self.samples)

    def earliest(self, now: float) -> float | None:
        """And not earlier than this."""
        if now < self.samples[-1].answered_at:
            return None
        return max(each.time + (now - each.answered_at) * (1 - DRIFT) - ROUNDING for each in self.samples)
