"""A thousand senders in one group, heard by one receiver: packets a second, and what the receiver keeps of each.

Packets are sealed beforehand and then sent as fast as the network takes them, so that the receiver is what is
measured. Each packet is of another sender than the one before it. Once they arrive in batches, as from one host that
relays them all, and once one by one, as from a thousand hosts.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.two_hosts import Link, in_two_processes, two_hosts
from bench.ways import PORT
from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.inbound import InboundAssociations
from mcsa.esp.outbound import OutboundAssociation, batch_limit
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey
from mcsa.shell.batches import BatchReceiver, BatchSender

FIGURES = {
    "kpps": "opened, 200-byte payloads, in batches (thousands a second)",
    "single_kpps": "opened, one packet a call",
    "bytes_per_sender": "memory of the receiver, once it has heard everybody",
    "senders": "how many there are",
}
SENDERS = 1_000
SIZE = 200  # bytes
EACH = 100  # packets of each sender
ROUNDS = 5
_SUITE, _DOMAIN, _GROUP_ID, _EPOCH = suite_named("aes-256-gcm"), "bench", bytes(16), 1


class Heard(NamedTuple):
    """By one receiver."""

    kpps: float
    bytes_per_sender: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much it measures."""
    parser.add_argument("--senders", type=int, default=SENDERS, help="in the group (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="the median counts (default: %(default)s)")


def run(senders: int = SENDERS, rounds: int = ROUNDS) -> dict[str, float | str]:
    """All figures, with the kind of network they were had on."""
    key = GroupKey(os.urandom(32))
    packets = _sealed(key, senders)
    with two_hosts() as link:
        together = [_heard(link, key, packets, senders, batches=True) for _ in range(rounds)]
        apart = [_heard(link, key, packets, senders, batches=False) for _ in range(rounds)]
        kind = link.kind
    return {
        "kpps": round(median(each.kpps for each in together), 1),
        "single_kpps": round(median(each.kpps for each in apart), 1),
        "bytes_per_sender": round(median(each.bytes_per_sender for each in together)),
        "senders": senders,
        "network": kind,
    }


def _sealed(key: GroupKey, count: int) -> list[bytes]:
    """Packets of all senders in turn."""
    senders = [
        OutboundAssociation(derive_traffic_key(key, _DOMAIN, _GROUP_ID, _EPOCH, _SUITE, sender_id))
        for sender_id in range(1, count + 1)
    ]
    payload = bytes(SIZE)
    return [sender.seal(payload, PORT, PORT) for _ in range(EACH) for sender in senders]


def _heard(link: Link, key: GroupKey, packets: Sequence[bytes], senders: int, *, batches: bool) -> Heard:
    """What a fresh receiver makes of all packets."""

    def receive(ready: Callable[[], None]) -> Heard:
        inbound = InboundAssociations(_DOMAIN, _GROUP_ID, _SUITE)
        inbound.install(_EPOCH, key)
        inbound.set_roster(dict.fromkeys(range(1, senders + 1), link.source))
        receive_once = _receiver(link, inbound)
        ready()
        before = _memory()
        while not inbound.counters()["opened"]:
            with suppress(BlockingIOError):  # not a packet yet
                receive_once()
        first = inbound.counters()["opened"]
        started_at = ended_at = time.perf_counter()
        with suppress(BlockingIOError):
            while True:
                receive_once()
                ended_at = time.perf_counter()
        after = _memory()
        opened = inbound.counters()["opened"] - first
        return Heard(opened / (ended_at - started_at) / 1_000, (after - before) / senders)

    _, heard = in_two_processes(lambda: _send(link, packets, batches=batches), receive)
    return Heard(*heard)


def _receiver(link: Link, inbound: InboundAssociations) -> Callable[[], object]:
    receiver = BatchReceiver(link.receiving)
    receiver.slab.buffer[:] = bytes(len(receiver.slab.buffer))  # it is there before memory is counted
    return lambda: inbound.open_batch(receiver.slab, *receiver.receive())


def _send(link: Link, packets: Sequence[bytes], *, batches: bool) -> None:
    if not batches:
        for packet in packets:
            link.sending.sendto(packet, link.destination)
        return
    sender, waiting = BatchSender(link.sending, link.destination), iter(packets)
    while batch := list(islice(waiting, batch_limit(SIZE))):
        sender.send(memoryview(b"".join(batch)), len(batch[0]))


def _memory() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
