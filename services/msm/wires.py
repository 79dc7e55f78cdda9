"""A group's network side, as a user-space driver has it: sockets that carry ESP, in either wire form.

The wire form is the group's policy: `udp` is ESP in UDP on port 4500 (RFC 3948), which the kernel cuts and joins in
batches; `esp` is IP protocol 50, one packet a call, as kernel IPsec without encapsulation has it.
"""

from __future__ import annotations

import socket
from typing import Any, Protocol

from mcsa.addresses import canonical, parse_address
from mcsa.shell.batches import BatchReceiver, BatchSender
from mcsa.shell.marking import CONTROL_SIZE, UNMARKED, Marking, ask_for_markings, read_marking, write_marking
from mcsa.shell.multicast import ESP_PORT, GroupSocket
from mcsa.shell.multicast_families import Ancillary
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.path import GroupPath

LARGEST_DATAGRAM = 65_535
IP_HEADER_WORD = 4  # bytes; RFC 791 section 3.1: the header's length is in words of 32 bits


class Wire(Protocol):
    """What the engine needs of the network. Sends may come from several threads, receives from one."""

    address: str
    """Where what is sent comes from, without scope."""
    may_send: bool
    """False in a source-specific group that this host is no source of: nobody's network would carry it."""

    @property
    def overruns(self) -> int:
        """How often the kernel dropped what came because the socket's buffer was full (`GroupSocket.overruns`)."""

    @property
    def marking(self) -> Marking:
        """Of what was received last, where the wire is transparent."""

    def fileno(self) -> int:
        """Readable when something waits."""

    def receive(self, path: GroupPath, now: float) -> list[Any]:
        """Opens what waits, at least one packet; `OSError` where none does."""

    def send(self, packet: bytes, marking: Marking | None = None) -> None:
        """One ESP packet to the group, with the group's own TTL unless a marking says another. `OSError`, `Refused`."""

    def send_batch(self, packets: memoryview, segment_size: int, marking: Marking | None = None) -> None:
        """Packets one after another, all of `segment_size`, the last one perhaps shorter. Likewise."""

    def close(self) -> None:
        """Leaves the group. May be called twice."""


def open_wire(
    group: GroupDescription, address: str, *, offload: bool = True, transparent: bool = False, send_only: bool = False
) -> Wire:
    """The group's wire in the form that its policy says, on the interface that has `address`. Raises `Refused`.

    On loopback several MSMs have the group's address on one machine; elsewhere a second one is refused. Without
    `offload` each datagram is sent and received by a call of its own. A `transparent` wire tells the marking of what it
    receives. None fragments: what doesn't fit is an `OSError`, EMSGSIZE. One that is `send_only` joins nothing,
    and hears nothing that is sent to the group.
    """
    shared, raw_esp = parse_address(address).is_loopback, group.policy.wire == "esp"
    door = GroupSocket(
        group.address,
        0 if raw_esp else ESP_PORT,
        address,
        group.sources,
        ttl=group.ttl or 1,
        shared=shared,
        loop=shared,
        bind_group=not send_only,
        fragment=False,  # applications learn what fits (`largest.py`); what doesn't is counted
        raw_esp=raw_esp,
    )
    kind = EspWire if raw_esp else BatchedWire if offload else SingleWire
    return kind(door, group, address, transparent=transparent)


class SingleWire:
    """ESP in UDP, one packet a call."""

    def __init__(self, door: GroupSocket, group: GroupDescription, address: str, *, transparent: bool = False) -> None:
        self._socket = door
        self.address = canonical(address)
        self.may_send = not group.sources or self.address in group.sources
        door.socket.setblocking(False)
        self._control = _Control(door.socket, transparent)

    @property
    def overruns(self) -> int:
        return self._socket.overruns

    @property
    def marking(self) -> Marking:
        return self._control.marking

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self, path: GroupPath, now: float) -> list[Any]:
        datagram, source = self._control.receive()
        return path.open(datagram, source, now)

    def send(self, packet: bytes, marking: Marking | None = None) -> None:
        self._socket.send(packet, self._control.of(marking))

    def send_batch(self, packets: memoryview, segment_size: int, marking: Marking | None = None) -> None:
        control = self._control.of(marking)
        for start in range(0, len(packets), segment_size):
            self._socket.send(packets[start : start + segment_size], control)

    def close(self) -> None:
        self._socket.close()


class EspWire(SingleWire):
    """ESP as IP protocol 50, by a raw socket; needs CAP_NET_RAW. The kernel writes the IP headers."""

    def receive(self, path: GroupPath, now: float) -> list[Any]:
        datagram, source = self._control.receive()
        # A raw socket shows the IP header over IPv4, and not over IPv6 (raw(7), ipv6(7)).
        inside = _without_header(datagram) if self._socket.socket.family == socket.AF_INET else datagram
        return path.open(inside, source, now)


class BatchedWire(SingleWire):
    """ESP in UDP, in batches where the kernel has them."""

    def __init__(self, door: GroupSocket, group: GroupDescription, address: str, *, transparent: bool = False) -> None:
        super().__init__(door, group, address, transparent=transparent)
        self._receiver = BatchReceiver(door.socket, marked=transparent)
        self._sender = BatchSender(door.socket, door.destination, door.ancillary)

    @property
    def marking(self) -> Marking:
        return self._receiver.marking

    def receive(self, path: GroupPath, now: float) -> list[Any]:
        received = self._receiver.receive()
        return path.open_batch(self._receiver.slab, *received, now)

    def send_batch(self, packets: memoryview, segment_size: int, marking: Marking | None = None) -> None:
        self._sender.send(packets, segment_size, self._control.of(marking))


class _Control:
    """The control messages of one socket: markings out and in."""

    def __init__(self, door: socket.socket, transparent: bool) -> None:
        self._door = door
        self._size = CONTROL_SIZE if transparent else 0
        self.marking = UNMARKED
        self._written: tuple[Marking | None, Ancillary] = (None, ())
        if transparent:
            ask_for_markings(door)

    def of(self, marking: Marking | None) -> Ancillary:
        """To send with. Streams keep their marking, so the last one is kept."""
        before, written = self._written
        if marking != before:
            written = () if marking is None else write_marking(marking, self._door.family)
            self._written = marking, written
        return written

    def receive(self) -> tuple[bytes, str]:
        """A datagram and its source; its marking is kept."""
        if not self._size:
            datagram, source = self._door.recvfrom(LARGEST_DATAGRAM)
            return datagram, source[0]
        datagram, ancillary, _, source = self._door.recvmsg(LARGEST_DATAGRAM, self._size)
        self.marking = read_marking(ancillary, self.marking)
        return datagram, source[0]


def _without_header(datagram: bytes) -> bytes:
    return datagram[(datagram[0] & 0xF) * IP_HEADER_WORD :]
