"""What the tests do on a wire: tap it, and wait for a frame."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mcsa.laboratory.capture import read_frames, wire
from mcsa.laboratory.namespaces import Host

_MORE_FRAGMENTS, _OFFSET = 0x2000, 0x1FFF  # RFC 791, section 3.1
_FRAGMENT_HEADER = 44  # RFC 8200, section 4.5
WAITS_FOR = 10.0  # seconds; only a failing test waits so long


@contextmanager
def tapped(host: Host) -> Iterator[socket.socket]:
    """A tap on a host's interface, or on the bridge."""
    with host.inside():
        tap = wire(host.interface)
    with tap:
        yield tap


def frames_until(tap: socket.socket, enough: Callable[[list[bytes]], bool]) -> list[bytes]:
    """The frames on a tap, until there are enough or the time is up."""
    frames: list[bytes] = []
    deadline = time.monotonic() + WAITS_FOR
    while not enough(frames) and select.select([tap], [], [], max(0.0, deadline - time.monotonic()))[0]:
        read_frames(tap, frames.append)
    return frames


def is_fragment(frame: bytes) -> bool:
    """Whether this is a piece of an IP packet that was cut."""
    if frame[12:14] == b"\x86\xdd":
        return frame[20] == _FRAGMENT_HEADER
    return frame[12:14] == b"\x08\x00" and bool(int.from_bytes(frame[20:22], "big") & (_MORE_FRAGMENTS | _OFFSET))
