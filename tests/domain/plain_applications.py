"""Applications that know nothing of MCSA, on a host with the driver `tun`, and a tap at its physical interface."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

from mcsa.laboratory.capture import read_frames, wire
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.shell.multicast_families import IP_ADD_SOURCE_MEMBERSHIP, MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP

PORT = 5004
SAID_EACH = 0.005  # seconds
MARK = b"plaintext of "  # what each of them begins with


class PlainApplication:
    """Talks to a group the whole time, whatever becomes of it, and hears it: ordinary sockets that choose no interface.
    With a source it hears only that. A context manager."""

    def __init__(self, host: Host, group: str, source: str = "") -> None:
        self.name = host.name.encode()
        self._group = group
        self._said = 0
        self._over = threading.Event()
        with ExitStack() as opened, host.inside():
            family = socket.AF_INET6 if ":" in group else socket.AF_INET
            self._speaks = opened.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            self._hears = opened.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            self._hears.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # others may hear it too
            self._hears.bind(("", PORT))
            self._hears.setsockopt(*join_request(group, source))
            self._hears.settimeout(0.1)
            self._opened = opened.pop_all()
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def _talk(self) -> None:
        while not self._over.wait(SAID_EACH):
            with suppress(OSError):  # no network, no route, or a rule against it
                self._speaks.sendto(MARK + b"%s %d" % (self.name, self._said), (self._group, PORT))
            self._said += 1

    def hears(self, other: PlainApplication, within: float) -> None:
        """Something that the other says from now on; `TimeoutError` where it doesn't."""
        begin, deadline = other._said, time.monotonic() + within
        while time.monotonic() < deadline:
            with suppress(TimeoutError):
                _, _, rest = self._hears.recv(2_000).partition(MARK)
                name, _, number = rest.partition(b" ")
                if name == other.name and int(number) > begin:
                    return
        raise TimeoutError(f"{self.name!r} doesn't hear {other.name!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._opened.close()


def join_request(group: str, source: str) -> tuple[int, int, bytes]:
    """For `setsockopt`; where the kernel thinks best."""
    if ":" in group:
        # struct group_req, or group_source_req: interface, padding, one or two of struct sockaddr_storage
        option = MCAST_JOIN_SOURCE_GROUP if source else MCAST_JOIN_GROUP
        return socket.IPPROTO_IPV6, option, bytes(8) + b"".join(map(_storage, filter(None, (group, source))))
    if source:
        request = socket.inet_aton(group) + bytes(4) + socket.inet_aton(source)
        return socket.IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, request
    return socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + bytes(4)


def _storage(address: str) -> bytes:
    return struct.pack("=HHI16sI100x", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, address), 0)


class Tap:
    """All that passes a host's physical interface, as the other end of its cable has it: that stays up."""

    def __init__(self, laboratory: Laboratory, host: Host) -> None:
        with laboratory.bridge.inside():
            self._tap = wire(host.name)

    def heard(self) -> list[bytes]:
        """Frames since the last time."""
        found: list[bytes] = []
        read_frames(self._tap, found.append)
        return found

    def plaintext(self) -> list[bytes]:
        """Those of them that have what an application said; all have to be looked at, so there have to be some."""
        frames = self.heard()
        assert frames
        return [frame for frame in frames if MARK in frame]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tap.close()
