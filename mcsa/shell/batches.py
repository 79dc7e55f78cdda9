"""The door for batches of datagrams: many packets of one size in one system call.

The kernel's work for each datagram costs more than sealing it does. UDP_SEGMENT hands the kernel one buffer that it
cuts into datagrams as late as it can, UDP_GRO gives back in one buffer what arrived together. Both are Linux's (4.18,
5.0), for UDP only. Where one isn't to be had, these doors send and receive one by one, and say so. No event loop:
asyncio's datagrams reach a tenth of this. The sockets are `mcsa.shell.multicast.GroupSocket`'s, with their big buffers.

Numbers are from the kernel's headers (linux/udp.h, asm-generic/socket.h); `socket` of Python 3.11 lacks them.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from itertools import repeat
from typing import NamedTuple

from mcsa.esp.slab import SLAB_SIZE, Slab
from mcsa.shell.marking import CONTROL_SIZE, UNMARKED, ask_for_markings, read_marking
from mcsa.shell.multicast_families import Ancillary, SocketAddress

SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104
SO_RXQ_OVFL = 40

_SEGMENT_SIZE = struct.Struct("=H")  # of the control message that goes out
_INT = struct.Struct("=i")  # of the one that comes in
_OVERFLOWS = struct.Struct("=I")
_ANCILLARY_SIZE = socket.CMSG_SPACE(_INT.size) + socket.CMSG_SPACE(_OVERFLOWS.size)
_UNSUPPORTED = {errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP}  # EIO: the device can't, or IPsec is in the way
_UNFITTING = {errno.EINVAL, errno.EMSGSIZE}  # this batch: its packets are larger than the path takes unfragmented


class BatchSender:
    """Sends batches to one address, by UDP_SEGMENT as long as the kernel and the device take it."""

    def __init__(self, door: socket.socket, destination: SocketAddress, ancillary: Ancillary = ()) -> None:
        """`ancillary` goes with each call: an IPv6 source address (`GroupSocket.ancillary`)."""
        self._door = door
        self._destination = destination
        self._ancillary = ancillary
        self.offloaded = _probe(door, UDP_SEGMENT, 0)
        """False where each packet takes a call of its own."""

    def send(self, packets: memoryview, segment_size: int, control: Ancillary = ()) -> None:
        """Sends what lies in the buffer: datagrams of `segment_size`, the last one perhaps shorter, each with these
        control messages. `OSError`."""
        if len(packets) <= segment_size:
            self._send_one(packets, control)
        elif not self.offloaded or not self._send_offloaded(packets, segment_size, control):
            self._send_each(packets, segment_size, control)

    def _send_each(self, packets: memoryview, segment_size: int, control: Ancillary) -> None:
        each = [packets[start : start + segment_size] for start in range(0, len(packets), segment_size)]
        if control or self._ancillary:
            for packet in each:
                self._send_one(packet, control)
        else:
            deque(map(self._door.sendto, each, repeat(self._destination)), maxlen=0)

    def _send_one(self, packet: memoryview, control: Ancillary) -> None:
        if control or self._ancillary:
            self._door.sendmsg((packet,), (*self._ancillary, *control), 0, self._destination)
        else:
            self._door.sendto(packet, self._destination)

    def _send_offloaded(self, packets: memoryview, segment_size: int, control: Ancillary) -> bool:
        cut = (SOL_UDP, UDP_SEGMENT, _SEGMENT_SIZE.pack(segment_size))
        try:
            self._door.sendmsg((packets,), (cut, *self._ancillary, *control), 0, self._destination)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                self.offloaded = False
                return False
            if error.errno in _UNFITTING:
                return False
            raise
        return True


class Received(NamedTuple):
    """What one receive put into the slab: `length` bytes, packets of `segment_size`, the last one perhaps shorter."""

    length: int
    segment_size: int
    source: str


class BatchReceiver:
    """Receives into one slab, by UDP_GRO where the kernel has it. What is in the slab holds until the next receive.

    With `marked` it tells the marking of what it received last; what has another is never in one batch.
    """

    def __init__(self, door: socket.socket, *, marked: bool = False) -> None:
        self._door = door
        self.slab = Slab()
        self._buffers = (self.slab.view,)
        self.offloaded = _probe(door, UDP_GRO, 1)
        """False where each packet takes a call of its own."""
        self.overflows = 0
        """Datagrams that the kernel dropped because this socket's buffer was full, as of the last receive."""
        door.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        self.marking = UNMARKED
        self._marked = marked
        self._ancillary_size = _ANCILLARY_SIZE + (CONTROL_SIZE if marked else 0)
        if marked:
            ask_for_markings(door)

    def receive(self) -> Received:
        """The next batch. Waits as the socket does: `BlockingIOError` or `TimeoutError` where it has enough."""
        length, ancillary, _, source = self._door.recvmsg_into(self._buffers, self._ancillary_size)
        segment_size = length or SLAB_SIZE  # an empty datagram has no segments, and nothing divides by 0
        for level, kind, value in ancillary:
            if level == SOL_UDP and kind == UDP_GRO:
                (segment_size,) = _INT.unpack(value)
            elif level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL:
                (self.overflows,) = _OVERFLOWS.unpack(value)
        if self._marked:
            self.marking = read_marking(ancillary, self.marking)
        return Received(length, segment_size, source[0])


def _probe(door: socket.socket, option: int, value: int) -> bool:
    try:
        door.setsockopt(SOL_UDP, option, value)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True
