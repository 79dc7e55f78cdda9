from __future__ import annotations

import os
import threading

import pytest

from mcsa.errors import Refused
from mcsa.shell.cores import Cores


def pinned_to(cores: Cores) -> set[int]:
    """Where a thread is that asks."""
    found: list[set[int]] = []

    def ask() -> None:
        cores.pin()
        found.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return found[0]


def test_threads_have_cores_in_turn_and_others_none() -> None:
    usable = sorted(os.sched_getaffinity(0))
    cores = Cores(usable)
    assert [pinned_to(cores) for _ in range(2 * len(usable))] == [{core} for core in usable] * 2
    assert sorted(os.sched_getaffinity(0)) == usable
    assert pinned_to(Cores()) == set(usable)


def test_a_core_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(Refused, match=r"core 9999\. There are: \d"):
        Cores([9_999])
