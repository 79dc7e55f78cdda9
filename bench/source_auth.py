"""Packets a second with each mode of source authentication, over multicast between two hosts, and how long they get.

Both ends are the MSM's packet path (`services.msm.path`): blocks, proofs, anti-replay after the proof, relaying and
roster as in service; only sockets and threads are the benchmark's. A packet counts as heard when the application would
have got it and its source was proved. The sender sends as fast as it can, so what is heard is what one receiver can
prove in a second. Not so with `tesla`: what waits in a socket's buffer comes too late to be believed, so that it is
sent at several paces, and the one at which most is proved counts.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from operator import itemgetter
from statistics import median
from typing import Any

from rich.table import Table

from bench.two_hosts import Link, in_two_processes, two_hosts
from mcsa.esp.outbound import batch_limit, packet_size
from mcsa.keys import GroupKey
from mcsa.policy import complete_policy
from mcsa.shell.batches import BatchReceiver, BatchSender
from mcsa.source_authentication import ClockBound, SourceKey, mode_named, modes
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm.events import InstallEpoch, SetClock, SetRoster, SetSource, SwitchSending
from services.msm.path import GroupPath, Received
from services.msm.received import ReceivedRun

FIGURES = {
    "kpps_200": "sent and proved, 200-byte payloads (thousands a second), by mode",
    "kpps_1000": "sent and proved, 1,000-byte payloads, by mode",
    "sent_kpps_200": "authenticated, sealed and sent",
    "bytes_200": "bytes of such a packet on the network, IPv4 and UDP included, at most",
    "cpu_us_200": "microseconds of a receiver's processor that such a packet takes, whatever else the machine does",
    "overhead": "bytes that the mode adds to a payload, at most",
    "tree_by_signature_200": "how many times what `signature` proves `tree` does, by packets a second",
    "tree_by_signature_cpu_200": "the same by processor time",
}
SIZES = (200, 1_000)  # bytes: with all of `tree`'s proof a packet of 1,000 still fits into 1,500
ROUNDS = 3
SECONDS = 0.8  # of sending: a few of `tesla`'s intervals
PORT, DOMAIN, GROUP_ID, EPOCH, SENDER_ID = 5004, "bench", bytes(16), 1, 1
IP_AND_UDP = 28  # bytes
PACES = (25, 50, 75, 100)  # thousands a second, for a mode in which being late is being lost


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much it measures."""
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="the median counts (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of sending, each time (default: %(default)s)")


def run(rounds: int = ROUNDS, seconds: float = SECONDS) -> dict[str, Any]:
    """All figures, each by mode, with the kind of network they were had on."""
    names = sorted(modes())
    with two_hosts() as link:
        got = [
            {(name, size): _rates(link, name, size, seconds) for name in names for size in SIZES} for _ in range(rounds)
        ]
        kind = link.kind

    def middle(name: str, size: int, which: int) -> float:
        return round(float(median(each[name, size][which] for each in got)), 1)

    heard = {size: {name: middle(name, size, 1) for name in names} for size in SIZES}
    cpu = {name: middle(name, 200, 2) for name in names}
    overhead = {name: mode_named(name).overhead(_policy(name)) for name in names}
    return {
        "kpps_200": heard[200],
        "kpps_1000": heard[1_000],
        "sent_kpps_200": {name: middle(name, 200, 0) for name in names},
        "bytes_200": {name: IP_AND_UDP + packet_size(200 + overhead[name]) for name in names},
        "overhead": overhead,
        "cpu_us_200": cpu,
        "tree_by_signature_200": round(heard[200]["tree"] / heard[200]["signature"], 1),
        "tree_by_signature_cpu_200": round(cpu["signature"] / cpu["tree"], 1),
        "network": kind,
    }


def table(values: dict[str, Any], title: str) -> Table:
    """A row for each mode."""
    columns = [name for name, value in values.items() if isinstance(value, dict)]
    shown = Table(title=title, title_justify="left", caption=_ratios(values))
    for column in ("mode", *columns):
        shown.add_column(column, justify="left" if column == "mode" else "right")
    for name in values["overhead"]:
        shown.add_row(name, *(str(values[column][name]) for column in columns))
    return shown


def _ratios(values: dict[str, Any]) -> str:
    by_time = values["tree_by_signature_cpu_200"]
    return f"tree / signature: {values['tree_by_signature_200']}, by processor time {by_time}"


def _policy(name: str) -> GroupPolicy:
    return complete_policy(GroupPolicy(source_authentication=name))


def _rates(link: Link, name: str, size: int, seconds: float) -> tuple[float, float, float]:
    """Of the pace at which most is proved."""
    paces: tuple[float, ...] = (float("inf"),) if mode_named(name).promises.at_once else PACES
    return max((_rates_at(link, name, size, seconds, pace) for pace in paces), key=itemgetter(1))


def _rates_at(link: Link, name: str, size: int, seconds: float, pace: float) -> tuple[float, float, float]:
    """Thousands of packets a second: sent, and proved; microseconds of processor for each that was proved."""
    group_key, source_key = GroupKey(os.urandom(32)), SourceKey()

    def path(own: int | None) -> GroupPath:
        made = GroupPath(DOMAIN, GroupDescription(group_id=GROUP_ID, address=link.group, policy=_policy(name)))
        now, keys = time.time(), {SENDER_ID: source_key.public}
        for effect in (
            InstallEpoch(GROUP_ID, EPOCH, group_key),
            SetRoster(GROUP_ID, {SENDER_ID: link.source}, own, None, source_keys=keys, announced=GROUP_ID),
            SetClock(GROUP_ID, ClockBound.by(now, now, now)),
            SetSource(GROUP_ID, SENDER_ID, source_key, GROUP_ID),
        ):
            made.carry_out(effect, now)
        return made

    sent, heard = in_two_processes(
        lambda: _send_for_a_while(link, path(SENDER_ID), size, seconds, pace),
        lambda ready: _receive_all(link, path(None), ready),
    )
    return sent, *heard


def _send_for_a_while(link: Link, path: GroupPath, size: int, seconds: float, pace: float) -> float:
    path.carry_out(SwitchSending(GROUP_ID, EPOCH, SENDER_ID), time.time())
    sender, payloads = BatchSender(link.sending, link.destination), [bytes(size)] * min(64, batch_limit(size))

    def send(outgoing: Iterable[Any]) -> None:
        for each in outgoing:
            sender.send(each.packets.view, each.packets.segment_size)

    def say() -> None:
        if path.authenticates_sources:
            send(path.say(payloads, PORT, PORT, time.time()))
            return
        for batch in path.seal_batches(payloads, PORT, PORT):
            sender.send(batch.view, batch.segment_size)

    started_at, rounds = time.perf_counter(), 0
    while time.perf_counter() < started_at + seconds:
        say()
        rounds += 1
        ahead = rounds * len(payloads) / pace / 1_000 - (time.perf_counter() - started_at)
        if ahead > 0:
            time.sleep(ahead)
    took = time.perf_counter() - started_at
    while (wake_at := path.wake_at()) is not None:  # what is still to be disclosed
        time.sleep(max(0.0, wake_at - time.time()))
        send(path.woken(time.time()))
    return rounds * len(payloads) / took / 1_000


def _receive_all(link: Link, path: GroupPath, ready: Callable[[], None]) -> tuple[float, float]:
    """Until the socket has been silent; the clock runs from the first packet to the last that was proved."""
    receiver, heard = BatchReceiver(link.receiving), 0
    ready()
    started_at = ended_at = 0.0
    silent, busy_before = 0, time.process_time()
    while silent < 3:  # `tesla` discloses in intervals
        try:
            received = receiver.receive()
        except BlockingIOError:
            silent += bool(heard or started_at)
            continue
        silent = 0
        started_at = started_at or time.perf_counter()
        items = path.open_batch(receiver.slab, *received, time.time())
        found = sum(len(item) if isinstance(item, ReceivedRun) else isinstance(item, Received) for item in items)
        if found:
            heard += found
            ended_at = time.perf_counter()
    busy = time.process_time() - busy_before
    with suppress(ZeroDivisionError):
        return heard / (ended_at - started_at) / 1_000, busy / heard * 1e6
    return 0.0, float("inf")
