"""Ways to send and receive: with and without ESP, in batches and one by one."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

from bench.two_hosts import Link
from mcsa.esp.derive import TrafficKey, derive_traffic_key
from mcsa.esp.inbound import InboundAssociations
from mcsa.esp.outbound import OutboundAssociation, batch_limit
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey
from mcsa.shell.batches import SOL_UDP, UDP_GRO, BatchReceiver, BatchSender

PORT = 5004
_SUITE = suite_named("aes-256-gcm")
_DOMAIN, _GROUP_ID, _EPOCH, _SENDER_ID = "bench", bytes(16), 1, 1

Send = Callable[[list[bytes]], object]
"""Sends these payloads."""
Receive = Callable[[Callable[[Iterable[bytes]], None]], object]
"""Receives once, and hands the payloads to what it is given."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to send and receive: makes both ends, each in its own process."""

    sender: Callable[[Link, int, GroupKey], Send]
    receiver: Callable[[Link, int, GroupKey], Receive]


def _esp_sender(link: Link, size: int, key: GroupKey) -> Send:
    outbound, sender = _outbound(key), BatchSender(link.sending, link.destination)

    def send(payloads: list[bytes]) -> None:
        for batch in outbound.seal_batches(payloads, PORT, PORT):
            sender.send(batch.view, batch.segment_size)

    return send


def sealing() -> Send:
    """Only seals, and sends nothing."""
    outbound = _outbound(GroupKey(os.urandom(32)))

    def seal(payloads: list[bytes]) -> None:
        for _ in outbound.seal_batches(payloads, PORT, PORT):
            pass

    return seal


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
    """Sealed together and sent by a call for each, as where the kernel or the device has no segmentation offload."""
    outbound, sender = _outbound(key), BatchSender(link.sending, link.destination)
    sender.offloaded = False

    def send(payloads: list[bytes]) -> None:
        for batch in outbound.seal_batches(payloads, PORT, PORT):
            sender.send(batch.view, batch.segment_size)

    return send


def _single_plain_sender(link: Link, size: int, key: GroupKey) -> Send:
    send_to, destination = link.sending.sendto, link.destination

    def send(payloads: list[bytes]) -> None:
        for payload in payloads:
            send_to(payload, destination)

    return send


def _single_plain_receiver(link: Link, size: int, key: GroupKey) -> Receive:
    receive_from = without_offload(link.receiving).recvfrom
    return lambda collect: collect((receive_from(2_048)[0],))


ESP = Way(_esp_sender, _esp_receiver)
PLAIN = Way(_plain_sender, _plain_receiver)
SINGLE_ESP = Way(_single_esp_sender, _esp_receiver)
SINGLE_PLAIN = Way(_single_plain_sender, _single_plain_receiver)


def traffic_key(key: GroupKey) -> TrafficKey:
    """The one sender's."""
    return derive_traffic_key(key, _DOMAIN, _GROUP_ID, _EPOCH, _SUITE, _SENDER_ID)


def _outbound(key: GroupKey) -> OutboundAssociation:
    return OutboundAssociation(traffic_key(key))


def _inbound(key: GroupKey, source: str) -> InboundAssociations:
    inbound = InboundAssociations(_DOMAIN, _GROUP_ID, _SUITE)
    inbound.install(_EPOCH, key)
    inbound.set_roster({_SENDER_ID: source})
    return inbound


def without_offload(door: socket.socket) -> socket.socket:
    """The socket, with one packet a call from now on."""
    door.setsockopt(SOL_UDP, UDP_GRO, 0)  # the measurement before set it
    return door
