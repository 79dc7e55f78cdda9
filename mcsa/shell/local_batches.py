"""Batches on the relay's local socket: many payloads in one message, for who sends or hears thousands a second.

    application to MSM:  0 (2 bytes) | size (2) | destination port (2) | source port (2) | payloads
    MSM to application:  2^31 + sender ID (4) | source port (2) | destination port (2) | size (2) | payloads

All big-endian. Payloads of `size` bytes lie one after another, the last one may be shorter, none is empty; a message
has 65,535 bytes at most. No single frame (`mcsa.shell.local_frames`) begins like that: it names no port 0, and sender
IDs have 20 bits. Single frames may come between, both ways.

An application is given batches once it has sent the 8 zero bytes `ASK_FOR_BATCHES`; who doesn't know of them never gets
one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Self

from mcsa.equal_sizes import of_one_size
from mcsa.errors import Refused, Rejected
from mcsa.shell.local_frames import (
    LARGEST_FRAME,
    IncomingFrame,
    OutgoingFrame,
    connect_frames,
    enlarge,
    parse_incoming,
)

ASK_FOR_BATCHES = bytes(8)
SEND_BUFFER_SIZE = 1 << 20  # bytes: some 16 batches; with less, application and MSM take turns for each two
_OUTGOING = struct.Struct(">HHHH")
_INCOMING = struct.Struct(">IHHH")
_MARK = 1 << 31


class OutgoingBatch(NamedTuple):
    """From an application to its MSM: what to send to the group."""

    destination_port: int
    source_port: int
    payloads: Sequence[bytes]

    def messages(self) -> Iterator[Sequence[bytes]]:
        """As few messages as can be, each as its parts for `socket.sendmsg`."""
        for size, payloads in of_one_size(self.payloads, _fitting(_OUTGOING.size)):
            if len(payloads) == 1:
                yield (OutgoingFrame(self.destination_port, self.source_port, payloads[0]).encode(),)
            else:
                yield (_OUTGOING.pack(0, size, self.destination_port, self.source_port), *payloads)


class IncomingBatch(NamedTuple):
    """From the MSM to an application: what somebody sent to the group."""

    sender_id: int
    source_port: int
    destination_port: int
    payloads: Sequence[bytes]

    def messages(self) -> Iterator[tuple[int, Sequence[bytes]]]:
        """As few messages as can be: how many payloads are in each, and its parts for `socket.sendmsg`."""
        for size, payloads in of_one_size(self.payloads, _fitting(_INCOMING.size)):
            if len(payloads) == 1:
                yield 1, (IncomingFrame(self.sender_id, self.source_port, self.destination_port, payloads[0]).encode(),)
            else:
                head = _INCOMING.pack(_MARK | self.sender_id, self.source_port, self.destination_port, size)
                yield len(payloads), (head, *payloads)

    def frames(self) -> Iterator[bytes]:
        """The same for an application that knows of no batches."""
        for payload in self.payloads:
            yield IncomingFrame(self.sender_id, self.source_port, self.destination_port, payload).encode()


def is_outgoing_batch(message: bytes) -> bool:
    """Whether an application's message is a batch, or asks for them: then it is no frame."""
    return message.startswith(b"\0\0")


def parse_outgoing_batch(message: bytes) -> OutgoingBatch | None:
    """An application's batch; None for `ASK_FOR_BATCHES`. `Rejected("frame")` where it is none."""
    if message == ASK_FOR_BATCHES:
        return None
    if not _OUTGOING.size < len(message) <= LARGEST_FRAME:
        raise Rejected("frame", "length")
    mark, size, destination_port, source_port = _OUTGOING.unpack_from(message)
    if mark or not size:
        raise Rejected("frame", "size")
    if not destination_port:
        raise Rejected("frame", "port")
    return OutgoingBatch(destination_port, source_port, _cut(message, _OUTGOING.size, size))


def parse_incoming_batch(message: bytes) -> IncomingBatch:
    """A message of the MSM's, batch or frame. `Rejected("frame")` where it is neither."""
    if not message or message[0] < _MARK >> 24:
        frame = parse_incoming(message)
        return IncomingBatch(frame.sender_id, frame.source_port, frame.destination_port, (frame.payload,))
    if len(message) <= _INCOMING.size:
        raise Rejected("frame", "length")
    sender_id, source_port, destination_port, size = _INCOMING.unpack_from(message)
    if not size:
        raise Rejected("frame", "size")
    return IncomingBatch(sender_id ^ _MARK, source_port, destination_port, _cut(message, _INCOMING.size, size))


class BatchedApplication:
    """An application that is connected to a group's local socket and speaks in batches. A context manager.

    `Refused` where the MSM isn't there, or has gone.
    """

    def __init__(self, path: Path) -> None:
        self.socket = connect_frames(path)
        enlarge(self.socket, SEND_BUFFER_SIZE)
        self.socket.send(ASK_FOR_BATCHES)

    def send(self, payloads: Sequence[bytes], destination_port: int, source_port: int) -> None:
        """Sends to the group. Waits where the MSM has no room, unless the socket has a timeout (`TimeoutError`)."""
        try:
            for parts in OutgoingBatch(destination_port, source_port, payloads).messages():
                self.socket.sendmsg(parts)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise _gone() from error

    def receive(self) -> IncomingBatch:
        """What comes next. Waits, unless the socket has a timeout (`TimeoutError`)."""
        try:
            message = self.socket.recv(LARGEST_FRAME)
        except ConnectionResetError as error:
            raise _gone() from error
        if not message:
            raise _gone()
        return parse_incoming_batch(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def _fitting(head: int) -> Callable[[int], int]:
    """How many payloads of a size fit in a message beside its head; empty ones are frames."""
    return lambda size: max(1, (LARGEST_FRAME - head) // size) if size else 1


def _cut(message: bytes, start: int, size: int) -> list[bytes]:
    end = len(message) - (len(message) - start) % size
    payloads = list(chain.from_iterable(_of_size(size).iter_unpack(memoryview(message)[start:end])))
    if end < len(message):
        payloads.append(message[end:])
    return payloads


@lru_cache(maxsize=1024)
def _of_size(size: int) -> struct.Struct:
    return struct.Struct(f"{size}s")


def _gone() -> Refused:
    return Refused("local-socket", "closed", "The MSM has ended or left the group: ask for the group's socket again.")
