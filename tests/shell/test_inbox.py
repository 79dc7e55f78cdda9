from __future__ import annotations

import asyncio
import threading
from collections import Counter

from mcsa.shell.inbox import AT_ONCE, WAITING_AT_MOST, Inbox
from tests.shell.conftest import until


async def test_events_of_several_threads_arrive_each_threads_in_order() -> None:
    found: list[tuple[int, int]] = []
    inbox = Inbox(asyncio.get_running_loop(), found.append, Counter())

    def tell(number: int) -> None:
        for each in range(500):
            inbox.put((number, each))

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    await until(lambda: len(found) == 1_500)
    for number in range(3):
        assert [each for who, each in found if who == number] == list(range(500))
    inbox.put((9, 9))  # and again after a rest
    await until(lambda: found[-1] == (9, 9))


async def test_what_is_droppable_waits_within_bounds_and_the_rest_is_not_lost() -> None:
    """The loop is busy meanwhile: with this test."""
    found: list[object] = []
    counters: Counter[str] = Counter()
    inbox = Inbox(asyncio.get_running_loop(), found.append, counters)
    for number in range(3 * WAITING_AT_MOST):
        inbox.put(number, droppable=True)
    inbox.put("must arrive")
    await until(lambda: "must arrive" in found)
    assert found == [*range(WAITING_AT_MOST), "must arrive"]
    assert counters == {"events-lost": 2 * WAITING_AT_MOST}


async def test_a_flood_leaves_the_loop_time_for_others() -> None:
    found: list[int] = []
    inbox = Inbox(asyncio.get_running_loop(), found.append, Counter())
    for number in range(10 * AT_ONCE):
        inbox.put(number)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < len(found) <= 2 * AT_ONCE
    await until(lambda: len(found) == 10 * AT_ONCE)


def test_after_the_end_of_the_loop_nothing_happens() -> None:
    loop = asyncio.new_event_loop()
    inbox = Inbox(loop, [].append, Counter())
    loop.close()
    inbox.put(1)
