"""What ESP adds to the way of a voice packet: 160 bytes each 20 ms, from before sealing to after opening.

Plain and ESP packets alternate on the same sockets, so whatever else the machine does delays both alike. The added
delay is the difference of the two medians, and of the two 99th percentiles. Waking the receiver is by far the most
of either delay.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from statistics import quantiles

from bench.two_hosts import Link, in_two_processes, two_hosts
from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.inbound import InboundAssociations
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.suite import suite_named
from mcsa.esp.wire import NON_ESP_MARKER
from mcsa.keys import GroupKey

FIGURES = {
    "added_us_p50": "one-way delay that ESP adds, median (microseconds)",
    "added_us_p99": "one-way delay that ESP adds, 99th percentile",
    "plain_us_p50": "one-way delay of a plain packet, median",
    "plain_us_p99": "one-way delay of a plain packet, 99th percentile",
}
PACKETS = 500  # of each kind
WARM_UP = 10  # packets of each kind that don't count
EVERY = 0.020  # seconds
SIZE = 160  # bytes: 20 ms of G.711
PORT = 5004
_SUITE = suite_named("aes-256-gcm")
_DOMAIN, _GROUP_ID, _EPOCH, _SENDER_ID = "bench", bytes(16), 1, 1
_STAMP_SIZE = 8

Delays = dict[str, list[int]]
"""By kind, "plain" and "esp": nanoseconds."""


def run() -> dict[str, float | str]:
    """All figures, with the kind of network they were had on."""
    key = GroupKey(os.urandom(32))
    with two_hosts() as link:
        _, delays = in_two_processes(lambda: _send(link, key), lambda ready: _receive(link, key, ready))
        kind = link.kind
    plain, esp = _percentiles(delays["plain"]), _percentiles(delays["esp"])
    return {
        "added_us_p50": round(esp[49] - plain[49], 1),
        "added_us_p99": round(esp[98] - plain[98], 1),
        "plain_us_p50": round(plain[49], 1),
        "plain_us_p99": round(plain[98], 1),
        "network": kind,
    }


def _percentiles(nanoseconds: list[int]) -> list[float]:
    """1st to 99th, microseconds."""
    return [each / 1_000 for each in quantiles(nanoseconds[WARM_UP:], n=100, method="inclusive")]


def _send(link: Link, key: GroupKey) -> None:
    outbound = OutboundAssociation(derive_traffic_key(key, _DOMAIN, _GROUP_ID, _EPOCH, _SUITE, _SENDER_ID))
    rest = bytes(SIZE - _STAMP_SIZE)
    next_at = time.monotonic()
    for _ in range(PACKETS + WARM_UP):
        next_at = _sleep_until(next_at + EVERY / 2)
        link.sending.sendto(NON_ESP_MARKER + _stamp() + rest, link.destination)
        next_at = _sleep_until(next_at + EVERY / 2)
        link.sending.sendto(outbound.seal(_stamp() + rest, PORT, PORT), link.destination)


def _receive(link: Link, key: GroupKey, ready: Callable[[], None]) -> Delays:
    inbound = InboundAssociations(_DOMAIN, _GROUP_ID, _SUITE)
    inbound.install(_EPOCH, key)
    inbound.set_roster({_SENDER_ID: link.source})
    delays: Delays = {"plain": [], "esp": []}
    ready()
    while len(delays["esp"]) < PACKETS + WARM_UP:
        with suppress(BlockingIOError):
            datagram, source = link.receiving.recvfrom(2_048)
            if datagram.startswith(NON_ESP_MARKER):
                kind, payload = "plain", datagram[len(NON_ESP_MARKER) :]
            else:
                kind, payload = "esp", inbound.open(datagram, source[0]).payload
            delays[kind].append(time.monotonic_ns() - int.from_bytes(payload[:_STAMP_SIZE], "big"))
    return delays


def _sleep_until(at: float) -> float:
    time.sleep(max(0.0, at - time.monotonic()))
    return at


def _stamp() -> bytes:
    return time.monotonic_ns().to_bytes(_STAMP_SIZE, "big")
