"""The clock."""

from __future__ import annotations

import time

from mcsa.shell.clock import system_now


def test_seconds_since_1970() -> None:
    before = time.time()
    now = system_now()
    assert before <= now <= time.time()
