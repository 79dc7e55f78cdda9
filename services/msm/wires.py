"""A group's network side, as a user-space driver has it: sockets that carry ESP, in either wire form.

The wire form is the group's policy: `udp` is ESP in UDP on port 4500 (RFC 3948), which the kernel cuts and joins in
batches; `esp` is IP protocol 50, one packet a call, as kernel IPsec without encapsulation has it.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any, Protocol

from mcsa.shell.batches import BatchReceiver, BatchSender
from mcsa.shell.multicast import ESP_PORT, GroupSocket
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.path import GroupPath

LARGEST_DATAGRAM = 65_535
IP_HEADER_WORD = 4  # bytes; RFC 791 section 3.1: the header's length is in words of 32 bits


class Wire(Protocol):
    """What the engine needs of the network. Sends may come from several threads, receives from one."""

    @property
    def overruns(self) -> int:
        """Datagrams that the kernel dropped because the socket's buffer was full."""

    def fileno(self) -> int:
        """Readable when something waits."""

    def receive(self, path: GroupPath, now: float) -> list[Any]:
        """Opens what waits, at least one packet; `OSError` where none does."""

    def send(self, packet: bytes) -> None:
        """One ESP packet to the group. `OSError`, `Refused`."""

    def send_batch(self, packets: memoryview, segment_size: int) -> None:
        """Packets one after another, all of `segment_size`, the last one perhaps shorter. Likewise."""

    def close(self) -> None:
        """Leaves the group. May be called twice."""


def open_wire(group: GroupDescription, address: str, *, offload: bool = True) -> Wire:
    """The group's wire in the form that its policy says, on the interface that has `address`. Raises `Refused`.

    On loopback several MSMs have the group's address on one machine; elsewhere a second one is refused. Without
    `offload` each datagram is sent and received by a call of its own.
    """
    shared = ipaddress.ip_address(address).is_loopback
    if group.policy.wire == "esp":
        return EspWire(group, address, shared=shared)
    return UdpWire(group, address, shared=shared, offload=offload)


class UdpWire:
    """ESP in UDP, in batches where the kernel has them."""

    def __init__(self, group: GroupDescription, address: str, *, shared: bool = False, offload: bool = True) -> None:
        self._socket = GroupSocket(
            group.address, ESP_PORT, address, group.sources, ttl=group.ttl or 1, shared=shared, loop=shared
        )
        door = self._socket.socket
        door.setblocking(False)
        self._receiver = BatchReceiver(door) if offload else None
        self._sender = BatchSender(door, self._socket.destination, self._socket.ancillary) if offload else None

    @property
    def overruns(self) -> int:
        return self._receiver.overflows if self._receiver is not None else 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self, path: GroupPath, now: float) -> list[Any]:
        if self._receiver is None:
            datagram, source = self._socket.socket.recvfrom(LARGEST_DATAGRAM)
            return path.open(datagram, source[0], now)
        received = self._receiver.receive()
        return path.open_batch(self._receiver.slab, *received, now)

    def send(self, packet: bytes) -> None:
        self._socket.send(packet)

    def send_batch(self, packets: memoryview, segment_size: int) -> None:
        if self._sender is not None:
            self._sender.send(packets, segment_size)
            return
        for start in range(0, len(packets), segment_size):
            self._socket.send(bytes(packets[start : start + segment_size]))

    def close(self) -> None:
        self._socket.close()


class EspWire:
    """ESP as IP protocol 50, by a raw socket; needs CAP_NET_RAW. The kernel writes the IP headers."""

    def __init__(self, group: GroupDescription, address: str, *, shared: bool = False) -> None:
        self._socket = GroupSocket(
            group.address, 0, address, group.sources, ttl=group.ttl or 1, shared=shared, loop=shared, raw_esp=True
        )
        self._socket.socket.setblocking(False)
        # A raw socket shows the IP header over IPv4, and not over IPv6 (raw(7), ipv6(7)).
        self._has_header = self._socket.socket.family == socket.AF_INET
        self.overruns = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self, path: GroupPath, now: float) -> list[Any]:
        datagram, source = self._socket.socket.recvfrom(LARGEST_DATAGRAM)
        return path.open(_without_header(datagram) if self._has_header else datagram, source[0], now)

    def send(self, packet: bytes) -> None:
        self._socket.send(packet)

    def send_batch(self, packets: memoryview, segment_size: int) -> None:
        for start in range(0, len(packets), segment_size):
            self._socket.send(bytes(packets[start : start + segment_size]))

    def close(self) -> None:
        self._socket.close()


def _without_header(datagram: bytes) -> bytes:
    return datagram[(datagram[0] & 0xF) * IP_HEADER_WORD :]
