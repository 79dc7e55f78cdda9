"""What is lost at 90% of the highest rate: ESP in batches, 1,400-byte payloads, sender and receiver on a core each.

The highest rate is what a receiver opens of a sender that sends all it can. Whatever else runs on the two cores shows
here: the socket's buffer holds some 20 ms of that rate.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from statistics import median

from bench.packets import rates
from bench.two_hosts import Link, in_two_processes, two_hosts
from bench.ways import ESP
from mcsa.esp.outbound import batch_limit
from mcsa.keys import GroupKey

FIGURES = {
    "highest_kpps_1400": "opened of what a sender sends as fast as it can (thousands a second)",
    "paced_kpps_1400": "what was then sent, 90% of it",
    "lost_1400": "packets that were sent then, and not opened",
    "seconds": "for so long",
}
SIZE = 1_400  # bytes
SHARE = 0.9  # of the highest rate
SECONDS = 10.0
ROUNDS = 5  # for the highest rate; the median counts


def add_options(parser: argparse.ArgumentParser) -> None:
    """How long it measures."""
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of paced sending (default: %(default)s)")


def run(seconds: float = SECONDS) -> dict[str, float | str]:
    """All figures, with the kind of network they were had on."""
    with two_hosts() as link:
        highest = median(min(rates(link, SIZE, ESP)) for _ in range(ROUNDS))
        sent, opened = _paced(link, SHARE * highest * 1_000, seconds)
        kind = link.kind
    return {
        "highest_kpps_1400": round(highest, 1),
        "paced_kpps_1400": round(sent / seconds / 1_000, 1),
        "lost_1400": sent - opened,
        "seconds": seconds,
        "network": kind,
    }


def _paced(link: Link, per_second: float, seconds: float) -> tuple[int, int]:
    key = GroupKey(os.urandom(32))
    sent, opened = in_two_processes(
        lambda: _send(link, key, per_second, seconds), lambda ready: _count(link, key, ready)
    )
    return int(sent), int(opened)


def _send(link: Link, key: GroupKey, per_second: float, seconds: float) -> int:
    """Batches of the largest size, evenly; how many packets these were."""
    send, at_once = ESP.sender(link, SIZE, key), batch_limit(SIZE)
    payloads, every, sent = [bytes(SIZE)] * at_once, at_once / per_second, 0
    due = time.perf_counter()
    ends_at = due + seconds
    while due < ends_at:
        while (now := time.perf_counter()) < due:
            pass  # sleeping would be late by as much as a batch takes
        due = max(due, now - every) + every  # who was kept waiting doesn't catch up by sending faster
        send(payloads)
        sent += 1
    return sent * at_once


def _count(link: Link, key: GroupKey, ready: Callable[[], None]) -> int:
    receive, opened = ESP.receiver(link, SIZE, key), 0

    def collect(payloads: Iterable[bytes]) -> None:
        nonlocal opened
        opened += len(list(payloads))

    ready()
    while not opened:
        with suppress(BlockingIOError):  # not a packet yet
            receive(collect)
    with suppress(BlockingIOError):
        while True:
            receive(collect)
    return opened
