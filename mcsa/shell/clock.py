"""The door to the clock."""

from __future__ import annotations

import time


def system_now() -> float:
    """Seconds since 1970, UTC."""
    return time.time()
