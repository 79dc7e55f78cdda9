"""When an announcement is said next: RFC 2974, section 3.1.

    interval = max(floor, 8 * announcements * size / limit)        announcements: all that are heard in this scope
    next     = last + interval * (2/3 to 4/3)

When the time has come it is reckoned again, with what is heard by then (timer reconsideration): who starts when many
do, or hears much at once since the network has healed, waits. The random part is drawn once a period: drawn anew at
each reckoning it would favour the late.

Two things the RFC doesn't say: the first announcement goes at once, since who convenes doesn't wait for five minutes,
and a flood makes the interval longer only so far that listeners like us don't forget what is announced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mcsa.sap.entry import FORGET_PERIODS

BITS_PER_SECOND = 4_000  # all announcements of a scope together, RFC 2974 section 3.1
INTERVAL = 300.0  # seconds at least between announcements of one session, by the same
FORGET_AFTER = 3_600.0  # seconds at least after the last announcement, RFC 2974 section 4


@dataclass(frozen=True, slots=True)
class Pace:
    """What an operator decides: seconds at least between announcements of a session, bits a second of all of a scope
    together, and seconds at least after which what isn't announced any more is forgotten."""

    floor: float = INTERVAL
    limit: float = BITS_PER_SECOND
    forget_after: float = FORGET_AFTER

    def interval(self, announcements: int, size: int, announcers: int = 1) -> float:
        """Seconds. `size` is in bytes; `announcers` say the same, and share the rate (RFC 2974 section 3)."""
        longest = max(self.floor, self.forget_after / FORGET_PERIODS)
        return max(self.floor, min(8 * announcements * size / self.limit * announcers, longest))


@dataclass(slots=True)
class Timer:
    """Of one announcement: when it was said last, and the random part of the wait since, 0 to 1."""

    said_at: float
    chance: float
    at: float

    def reckon(self, interval: float) -> float:
        """When it is to be said."""
        self.at = self.said_at + interval * (2 / 3 + 2 / 3 * self.chance)
        return self.at

    def is_due(self, interval: Callable[[], float], now: float) -> bool:
        """After reconsideration. Where the clock was set back, the wait begins anew."""
        if self.said_at > now:
            self.said_at = now
            self.reckon(interval())
        return now >= self.at and now >= self.reckon(interval())
