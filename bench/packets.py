"""How many packets a second are sealed, sent, received and opened, over multicast between two hosts.

A packet counts as sent when the socket took it, and as opened when the receiver has read the number in its payload
and no packet had that number before. The replay window is on. The application's part, making a payload and reading
its number, is the same with and without ESP.

All are measured in each round, so that what else the machine does meanwhile meets them all. What isn't installed here
is null: a compiler with OpenSSL's headers, pylibsrtp.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import repeat
from operator import add, itemgetter
from pathlib import Path
from statistics import median

from bench import c_program
from bench.relayed import relayed_group
from bench.two_hosts import Link, in_one_process, in_two_processes, two_hosts
from bench.ways import ESP, PLAIN, SINGLE_ESP, SINGLE_PLAIN, Receive, Send, Way, sealing
from mcsa.esp.outbound import batch_limit
from mcsa.keys import GroupKey

FIGURES = {
    "kpps_1400": "opened, 1,400-byte payloads, batches (thousands a second)",
    "kpps_200": "opened, 200-byte payloads, batches",
    "sent_kpps_1400": "sealed and sent, batches",
    "sent_kpps_200": "sealed and sent, batches",
    "c_kpps_1400": "opened by a C program with OpenSSL, the same batches",
    "c_kpps_200": "opened by a C program with OpenSSL, the same batches",
    "c_sent_kpps_1400": "sealed and sent by the C program",
    "c_sent_kpps_200": "sealed and sent by the C program",
    "relay_kpps_1400": "from application to application, through the relay driver on both hosts",
    "relay_kpps_200": "from application to application, through the relay driver on both hosts",
    "plain_kpps_1400": "received without ESP, the same batches",
    "plain_kpps_200": "received without ESP, the same batches",
    "single_kpps_1400": "opened, one packet a call",
    "single_kpps_200": "opened, one packet a call",
    "plain_single_kpps_1400": "received without ESP, one packet a call",
    "plain_single_kpps_200": "received without ESP, one packet a call",
    "of_c_1400": "kpps_1400 : c_kpps_1400, each round by itself",
    "of_c_200": "kpps_200 : c_kpps_200, each round by itself",
    "of_plain_single_1400": "single_kpps_1400 : plain_single_kpps_1400, each round by itself",
    "sealed_kpps_1300": "sealed in batches, no sockets at all",
    "sealed_kpps_200": "sealed in batches, no sockets at all",
    "srtp_kpps_1300": "pylibsrtp protects (AES-256-GCM), no sockets at all",
    "srtp_kpps_200": "pylibsrtp protects (AES-256-GCM), no sockets at all",
}
ROUNDS = 5
SECONDS = 0.3
_number_of = itemgetter(slice(0, 8))

Figures = dict[str, float | None]


def add_options(parser: argparse.ArgumentParser) -> None:
    """How long it measures."""
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="the median counts (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of sending, each time (default: %(default)s)")


def run(rounds: int = ROUNDS, seconds: float = SECONDS) -> dict[str, float | str | None]:
    """All figures, with the kind of network they were had on."""
    with two_hosts() as link, c_program.built() as program:
        measured = [_round(link, program, seconds) for _ in range(rounds)]
    return {name: middle([each[name] for each in measured]) for name in FIGURES} | {"network": link.kind}


def middle(values: list[float | None]) -> float | None:
    """The median; None where there is nothing."""
    there = [value for value in values if value is not None]
    return round(median(there), 2) if there else None


def _share(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours / theirs


def _round(link: Link, program: Path | None, seconds: float) -> Figures:
    """Each kind once."""
    figures: Figures = {}
    for size in (1_400, 200):
        figures[f"sent_kpps_{size}"], figures[f"kpps_{size}"] = rates(link, size, ESP, seconds)
        key = GroupKey(os.urandom(32))
        figures[f"c_sent_kpps_{size}"], figures[f"c_kpps_{size}"] = c_program.rates(program, link, size, key, seconds)
        figures[f"relay_kpps_{size}"] = _relayed(link, size, seconds)
        figures[f"plain_kpps_{size}"] = rates(link, size, PLAIN, seconds)[1]
        figures[f"single_kpps_{size}"] = rates(link, size, SINGLE_ESP, seconds)[1]
        figures[f"plain_single_kpps_{size}"] = rates(link, size, SINGLE_PLAIN, seconds)[1]
        figures[f"of_c_{size}"] = _share(figures[f"kpps_{size}"], figures[f"c_kpps_{size}"])
    figures["of_plain_single_1400"] = _share(figures["single_kpps_1400"], figures["plain_single_kpps_1400"])
    has_srtp = importlib.util.find_spec("pylibsrtp") is not None
    for size in (1_300, 200):  # libsrtp refuses packets much longer
        figures[f"sealed_kpps_{size}"] = in_one_process(lambda: _send_for_a_while(sealing(), size, seconds))  # noqa: B023
        figures[f"srtp_kpps_{size}"] = in_one_process(lambda: _srtp(size)) if has_srtp else None  # noqa: B023 - at once
    return figures


def rates(link: Link, size: int, way: Way, seconds: float = SECONDS) -> tuple[float, float]:
    """Thousands of packets a second: sent, and received by the application."""
    key = GroupKey(os.urandom(32))
    return in_two_processes(
        lambda: _send_for_a_while(way.sender(link, size, key), size, seconds),
        lambda ready: _receive_all(way.receiver(link, size, key), ready),
    )


def _relayed(link: Link, size: int, seconds: float) -> float:
    with relayed_group(link) as group:
        _, received = in_two_processes(
            lambda: _send_for_a_while(group.sender(), size, seconds),
            lambda ready: _receive_all(group.receiver(), ready),
        )
    return float(received)


def _send_for_a_while(send: Send, size: int, seconds: float) -> float:
    at_once = batch_limit(size)
    numbers = [number.to_bytes(4, "big") for number in range(at_once)]
    started_at = time.perf_counter()
    ends_at, chunk = started_at + seconds, 0
    while time.perf_counter() < ends_at:
        rest = chunk.to_bytes(4, "big") + bytes(size - 8)
        send(list(map(add, numbers, repeat(rest))))
        chunk += 1
    return chunk * at_once / (time.perf_counter() - started_at) / 1_000


def _receive_all(receive: Receive, ready: Callable[[], None]) -> float:
    """Until the socket has been silent; the clock runs from the first packet to the last."""
    numbers: list[bytes] = []

    def collect(payloads: Iterable[bytes]) -> None:
        numbers.extend(map(_number_of, payloads))

    ready()
    while not numbers:
        with suppress(BlockingIOError):  # not a packet yet
            receive(collect)
    first = len(numbers)
    started_at = ended_at = time.perf_counter()
    with suppress(BlockingIOError):
        while True:
            receive(collect)
            ended_at = time.perf_counter()
    return (len(set(numbers)) - first) / (ended_at - started_at) / 1_000


def _srtp(size: int) -> float:
    """Only the cipher and SRTP's header: RTP packets of so many bytes go in, nothing is sent."""
    import pylibsrtp

    profile = pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM
    policy = pylibsrtp.Policy(key=os.urandom(44), ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile)
    protect = pylibsrtp.Session(policy).protect
    header = struct.Struct(">BBHII")
    packets = [header.pack(0x80, 0, number, number, 1) + bytes(size - header.size) for number in range(20_000)]
    started_at = time.perf_counter()
    for packet in packets:
        protect(packet)
    return len(packets) / (time.perf_counter() - started_at) / 1_000
