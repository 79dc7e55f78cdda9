"""How many packets a second are sealed, sent, received and opened, over multicast between two hosts.

A packet counts as sent when the socket took it, and as opened when the receiver has read the number in its payload
and no packet had that number before. The replay window is on. The application's part, making a payload and reading
its number, is the same with and without ESP.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from operator import add, itemgetter
from statistics import median

import pylibsrtp

from bench.two_hosts import Link, in_one_process, in_two_processes, two_hosts
from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.inbound import InboundAssociations
from mcsa.esp.outbound import OutboundAssociation, batch_limit
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey
from mcsa.shell.batches import SOL_UDP, UDP_GRO, BatchReceiver, BatchSender

FIGURES = {
    "kpps_1400": "opened, 1,400-byte payloads, batches (thousands a second)",
    "kpps_200": "opened, 200-byte payloads, batches",
    "sent_kpps_1400": "sealed and sent, batches",
    "sent_kpps_200": "sealed and sent, batches",
    "plain_kpps_1400": "received without ESP, the same batches",
    "plain_kpps_200": "received without ESP, the same batches",
    "single_kpps_1400": "opened, one packet a call",
    "plain_single_kpps_1400": "received without ESP, one packet a call",
    "srtp_kpps_1300": "pylibsrtp protects (AES-256-GCM), no sockets at all",
    "srtp_kpps_200": "pylibsrtp protects (AES-256-GCM), no sockets at all",
}
ROUNDS = 7  # the median counts
SECONDS = 0.3  # of sending, each time
PORT = 5004
_SUITE = suite_named("aes-256-gcm")
_DOMAIN, _GROUP_ID, _EPOCH, _SENDER_ID = "bench", bytes(16), 1, 1
_number_of = itemgetter(slice(0, 8))

Send = Callable[[list[bytes]], object]
"""Sends these payloads."""
Receive = Callable[[Callable[[Iterable[bytes]], None]], object]
"""Receives once, and hands the payloads to what it is given."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to send and receive: makes both ends, each in its own process."""

    sender: Callable[[Link, int, GroupKey], Send]
    receiver: Callable[[Link, int, GroupKey], Receive]


def run() -> dict[str, float | str]:
    """All figures, with the kind of network they were had on."""
    with two_hosts() as link:
        rounds = [_round(link) for _ in range(ROUNDS)]
    figures: dict[str, float | str] = {name: round(median(each[name] for each in rounds), 1) for name in FIGURES}
    return figures | {"network": link.kind}


def _round(link: Link) -> dict[str, float]:
    """Each kind once, so that what else the machine does meanwhile meets them all."""
    sent_big, big = _rates(link, 1_400, ESP)
    sent_small, small = _rates(link, 200, ESP)
    return {
        "kpps_1400": big,
        "sent_kpps_1400": sent_big,
        "plain_kpps_1400": _rates(link, 1_400, PLAIN)[1],
        "kpps_200": small,
        "sent_kpps_200": sent_small,
        "plain_kpps_200": _rates(link, 200, PLAIN)[1],
        "single_kpps_1400": _rates(link, 1_400, SINGLE_ESP)[1],
        "plain_single_kpps_1400": _rates(link, 1_400, SINGLE_PLAIN)[1],
        "srtp_kpps_1300": in_one_process(lambda: _srtp(1_300)),
        "srtp_kpps_200": in_one_process(lambda: _srtp(200)),
    }


def _rates(link: Link, size: int, way: Way) -> tuple[float, float]:
    """Thousands of packets a second: sent, and received by the application."""
    key = GroupKey(os.urandom(32))
    return in_two_processes(
        lambda: _send_for_a_while(way.sender(link, size, key), size),
        lambda ready: _receive_all(way.receiver(link, size, key), ready),
    )


def _send_for_a_while(send: Send, size: int) -> float:
    at_once = batch_limit(size)
    numbers = [number.to_bytes(4, "big") for number in range(at_once)]
    started_at = time.perf_counter()
    ends_at, chunk = started_at + SECONDS, 0
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


def _esp_sender(link: Link, size: int, key: GroupKey) -> Send:
    outbound, sender = _outbound(key), BatchSender(link.sending, link.destination)

    def send(payloads: list[bytes]) -> None:
        for batch in outbound.seal_batches(payloads, PORT, PORT):
            sender.send(batch.view, batch.segment_size)

    return send


def _esp_receiver(link: Link, size: int, key: GroupKey) -> Receive:
    inbound, receiver = _inbound(key, link.source), BatchReceiver(link.receiving)

    def receive(collect: Callable[[Iterable[bytes]], None]) -> None:
        length, segment_size, source = receiver.receive()
        for each in inbound.open_batch(receiver.slab, length, segment_size, source).runs:
            collect(each.payloads)

    return receive


def _plain_sender(link: Link, size: int, key: GroupKey) -> Send:
    sender, limit = BatchSender(link.sending, link.destination), batch_limit(size)

    def send(payloads: list[bytes]) -> None:
        for start in range(0, len(payloads), limit):
            sender.send(memoryview(b"".join(payloads[start : start + limit])), size)

    return send


def _plain_receiver(link: Link, size: int, key: GroupKey) -> Receive:
    receiver, payload = BatchReceiver(link.receiving), struct.Struct(f"{size}s")

    def receive(collect: Callable[[Iterable[bytes]], None]) -> None:
        length = receiver.receive().length
        collect(chain.from_iterable(payload.iter_unpack(receiver.slab.view[:length])))

    return receive


def _single_esp_sender(link: Link, size: int, key: GroupKey) -> Send:
    seal, send_to, destination = _outbound(key).seal, link.sending.sendto, link.destination

    def send(payloads: list[bytes]) -> None:
        for payload in payloads:
            send_to(seal(payload, PORT, PORT), destination)

    return send


def _single_esp_receiver(link: Link, size: int, key: GroupKey) -> Receive:
    open_packet, receive_from = _inbound(key, link.source).open, _without_offload(link.receiving).recvfrom

    def receive(collect: Callable[[Iterable[bytes]], None]) -> None:
        datagram, source = receive_from(2_048)
        collect((open_packet(datagram, source[0]).payload,))

    return receive


def _single_plain_sender(link: Link, size: int, key: GroupKey) -> Send:
    send_to, destination = link.sending.sendto, link.destination

    def send(payloads: list[bytes]) -> None:
        for payload in payloads:
            send_to(payload, destination)

    return send


def _single_plain_receiver(link: Link, size: int, key: GroupKey) -> Receive:
    receive_from = _without_offload(link.receiving).recvfrom
    return lambda collect: collect((receive_from(2_048)[0],))


ESP = Way(_esp_sender, _esp_receiver)
PLAIN = Way(_plain_sender, _plain_receiver)
SINGLE_ESP = Way(_single_esp_sender, _single_esp_receiver)
SINGLE_PLAIN = Way(_single_plain_sender, _single_plain_receiver)


def _outbound(key: GroupKey) -> OutboundAssociation:
    return OutboundAssociation(derive_traffic_key(key, _DOMAIN, _GROUP_ID, _EPOCH, _SUITE, _SENDER_ID))


def _inbound(key: GroupKey, source: str) -> InboundAssociations:
    inbound = InboundAssociations(_DOMAIN, _GROUP_ID, _SUITE)
    inbound.install(_EPOCH, key)
    inbound.set_roster({_SENDER_ID: source})
    return inbound


def _without_offload(door: socket.socket) -> socket.socket:
    door.setsockopt(SOL_UDP, UDP_GRO, 0)  # the measurement before set it
    return door


def _srtp(size: int) -> float:
    """Only the cipher and SRTP's header: RTP packets of so many bytes go in, nothing is sent."""
    profile = pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM
    policy = pylibsrtp.Policy(key=os.urandom(44), ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile)
    protect = pylibsrtp.Session(policy).protect
    header = struct.Struct(">BBHII")
    packets = [header.pack(0x80, 0, number, number, 1) + bytes(size - header.size) for number in range(20_000)]
    started_at = time.perf_counter()
    for packet in packets:
        protect(packet)
    return len(packets) / (time.perf_counter() - started_at) / 1_000
