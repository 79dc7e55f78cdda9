"""The clock."""

from __future__ import annotations

import time

import pytest

from mcsa.shell.clock import system_now, wall_clock_offset


def test_seconds_since_1970() -> None:
    before = time.time()
    now = system_now()
    assert before <= now <= time.time()


def test_the_offset_tells_of_a_clock_that_was_set_and_of_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    first = wall_clock_offset()
    time.sleep(0.05)
    second = wall_clock_offset()
    assert first is not None and second is not None
    assert abs(second - first) < 0.005
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() - 3_600)
    third = wall_clock_offset()
    assert third is not None and abs(third - first + 3_600) < 0.005


def test_a_machine_that_is_too_busy_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1_000))
    monkeypatch.setattr(time, "clock_gettime", lambda _: next(ticks))
    assert wall_clock_offset() is None
