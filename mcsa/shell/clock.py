"""The door to the clock."""

from __future__ import annotations

import time


def system_now() -> float:
    """Seconds since 1970, UTC."""
    return time.time()


_AT_ONCE = 0.001  # seconds that reading two clocks may take; else somebody else had the processor meanwhile
_TRIES = 8


def wall_clock_offset() -> float | None:
    """Seconds by which `system_now` is ahead of a clock that nobody sets (CLOCK_BOOTTIME). It changes where the clock
    is set, not where NTP makes it go faster or slower; None where this machine is too busy to tell."""
    for _ in range(_TRIES):
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        wall = time.time()
        after = time.clock_gettime(time.CLOCK_BOOTTIME)
        if after - before < _AT_ONCE:
            return wall - before
    return None
