"""The door to multicast groups: sockets that join by IGMPv3 or MLDv2, each on one interface.

Linux only. An interface is named by an address that it has (a link-local one with its scope, `fe80::1%eth0`), and the
groups are of that address's family. What the kernel refuses becomes a `Refused`, code "multicast-socket", whose
sentence has the command that mends it.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from mcsa.addresses import check_group, parse_address
from mcsa.errors import Refused
from mcsa.shell.multicast_errors import CODE, RAW, Attempt
from mcsa.shell.multicast_families import Ancillary, Interface, Membership, interface_with

SO_SNDBUFFORCE = 32  # asm-generic/socket.h; missing in `socket` of Python 3.11
SO_RCVBUFFORCE = 33

SO_MEMINFO = 55  # Linux 4.12
_MEMINFO = struct.Struct("=9I")  # linux/sock_diag.h
_MEMINFO_DROPS = 8

IPPROTO_ESP = 50  # IANA protocol numbers
ESP_PORT = 4500  # RFC 3948 section 2: the port of UDP-encapsulated ESP
BUFFER_SIZE = 8 << 20  # bytes: 60 ms of a full 1 Gbit/s link, even if the kernel's own overhead is left out
_DROPPED_AT_ONCE = 64  # datagrams
_LARGEST_DATAGRAM = 65_535
_DESTINATION_SIZE = 20  # bytes of struct in6_pktinfo; struct in_pktinfo is shorter


class _Closing:
    """What both kinds of socket share."""

    socket: socket.socket

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        """Leaves and closes. May be called twice."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class GroupSocket(_Closing):
    """A UDP socket of one group on one interface.

    It receives what is sent to `group`:`port` and arrives on the interface that has `interface_address`: from
    anyone, or, where `sources` names addresses, from those only (source-specific, RFC 4607). What it sends leaves by
    that interface, from that address, with that `ttl`. `loop` says whether this machine's own sockets, this
    one too, are shown what it sends.

    `bind_group=False` makes a socket that only sends: it joins nothing and is bound to the interface's own address.
    `shared=True` lets several processes have the same group and port (each gets every datagram); without it a second
    one is refused, so that two MSMs on a host are noticed. With `fragment=False` a datagram that is longer than the
    interface's MTU is refused instead of cut, and routers don't cut one either. `raw_esp=True` is no UDP socket, but
    one for IP protocol 50; it has no port (`port` is 0), and several may always have the same group.

    Raises `Refused`. The socket blocks; for batches and segmentation offload use `.socket`.
    """

    def __init__(
        self,
        group: str,
        port: int,
        interface_address: str,
        sources: Iterable[str] = (),
        ttl: int = 1,
        loop: bool = False,
        bind_group: bool = True,
        *,
        shared: bool = False,
        fragment: bool = True,
        raw_esp: bool = False,
    ) -> None:
        self.port = port
        self.interface_address = interface_address
        self.sources = tuple(sources)
        self._leave: list[Membership] = []
        self._overruns = 0
        self.group = _checked(group, self.sources, interface_address, sends_only=not bind_group)
        self._interface = interface_with(self._attempt("send to"))
        self.destination = self._interface.socket_address(self.group, port)
        """Where a datagram to the group is sent, as `sendto` takes it."""
        self.ancillary = self._interface.ancillary
        """What has to go with each datagram that is sent by `socket` itself, as `sendmsg` takes it."""
        with self._attempt(RAW).explained():
            self.socket = (
                socket.socket(self._interface.family, socket.SOCK_RAW, IPPROTO_ESP)
                if raw_esp
                else socket.socket(self._interface.family, socket.SOCK_DGRAM)
            )
        try:
            _pin(self.socket, self._interface, self._attempt("send to"), ttl, loop)
            # Senders to several groups have the same address and port, so those may always share it.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, shared or not bind_group)
            if not fragment:
                self._interface.keep_whole(self.socket)
            with self._attempt("bind to").explained():
                # A socket bound to the group's address is shown no unicast and no other group on this port.
                bound = self.group if bind_group else interface_address
                self.socket.bind(self._interface.socket_address(bound, port))
            if bind_group:
                self._join()
        except BaseException:
            self.socket.close()
            raise

    def _attempt(self, doing: str, source: str = "", earlier_sources: int = 0) -> Attempt:
        return Attempt(doing, self.group, self.port, self.interface_address, source, earlier_sources)

    def _join(self) -> None:
        for earlier, source in enumerate(self.sources or ("",)):
            self._leave.append(self._interface.join(self.socket, self._attempt("join", source, earlier)))

    def send(self, payload: bytes | memoryview, control: Ancillary = ()) -> None:
        """Sends one datagram to the group, with these control messages."""
        with self._attempt("send to").explained():
            self.socket.sendmsg((payload,), (*self.ancillary, *control), 0, self.destination)

    @property
    def receive_buffer(self) -> int:
        """Bytes that the kernel granted for datagrams waiting to be read (half is its own overhead)."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    @property
    def overruns(self) -> int:
        """How often the kernel dropped what came because this socket's buffer was full: a datagram each time, or as
        many as it had joined into one piece (UDP_GRO). After `close` as many as there were then."""
        if self.socket.fileno() >= 0:
            counted = self.socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size)
            self._overruns = _MEMINFO.unpack(counted)[_MEMINFO_DROPS]
        return self._overruns

    def close(self) -> None:
        """Leaves the group, at once and even where a child has inherited the socket, and closes."""
        if self.socket.fileno() >= 0:
            self._overruns = self.overruns
            for membership in self._leave:
                with suppress(OSError):  # the interface has gone, and the membership with it
                    self.socket.setsockopt(*membership)
        super().close()


@dataclass(frozen=True, slots=True)
class Heard:
    """A datagram, its source (address and port, as the network claims), and the group that it was sent to."""

    payload: bytes
    source: str
    source_port: int
    group: str


class MulticastListener(_Closing):
    """Several groups on one port and interface, for SAP: hears them all, and sends to them from the same port.

    Non-blocking: wait for `fileno()` to be readable, then call `receive` until it gives None. The port is shared
    with whatever other listener this host runs. One socket may join 20 groups of IPv4 (net.ipv4.igmp_max_memberships).
    Raises `Refused`.
    """

    def __init__(
        self, groups: Sequence[str], port: int, interface_address: str, ttl: int = 255, loop: bool = True
    ) -> None:
        self.groups = frozenset(_checked(group, (), interface_address) for group in groups)
        self.port = port
        self.interface_address = interface_address
        attempt = Attempt("listen on", "", port, interface_address)
        self._interface = interface_with(attempt)
        self.socket = socket.socket(self._interface.family, socket.SOCK_DGRAM)
        try:
            self.socket.setblocking(False)
            _pin(self.socket, self._interface, attempt, ttl, loop)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # VLC and ffmpeg have this port too
            self._interface.show_destinations(self.socket)
            with Attempt("bind to", "", port, interface_address).explained():
                self.socket.bind(self._interface.socket_address(self._interface.any_address, port))
            for group in sorted(self.groups):
                self._interface.join(self.socket, Attempt("join", group, port, interface_address))
        except BaseException:
            self.socket.close()
            raise

    def receive(self) -> Heard | None:
        """The next datagram that was sent to one of the groups; None where none waits. Unicast is dropped.

        None also where many in a row were dropped, and more may wait: who sends them must not keep an event loop here.
        """
        for _ in range(_DROPPED_AT_ONCE):
            try:
                payload, ancillary, _, source = self.socket.recvmsg(
                    _LARGEST_DATAGRAM, socket.CMSG_SPACE(_DESTINATION_SIZE)
                )
            except BlockingIOError:
                return None
            for _, kind, value in ancillary:
                group = self._interface.destination(kind, value)
                if group in self.groups:
                    return Heard(payload, source[0], source[1], group)
        return None

    def send(self, payload: bytes, group: str) -> None:
        """Sends one datagram to a group on this port."""
        destination = self._interface.socket_address(group, self.port)
        with Attempt("send to", group, self.port, self.interface_address).explained():
            self.socket.sendmsg((payload,), self._interface.ancillary, 0, destination)


def _checked(group: str, sources: Sequence[str], interface_address: str, *, sends_only: bool = False) -> str:
    """The group's address in its one text form. Raises `Refused`."""
    checked = check_group(group, sources, code=CODE, sends_only=sends_only)
    family = parse_address(checked).version
    if (":" in interface_address) != (family == 6):
        sentence = f"{group} needs an IPv{family} address of an interface, and {interface_address} is none."
        raise Refused(CODE, "address family", f"{sentence} See which there are: ip -{family} address")
    return checked


def _pin(door: socket.socket, interface: Interface, attempt: Attempt, ttl: int, loop: bool) -> None:
    """What every multicast socket here has: one interface, a scope, room, and no other socket's groups."""
    with attempt.explained():
        interface.pin(door, ttl, loop)
    for forced, plain in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            door.setsockopt(socket.SOL_SOCKET, forced, BUFFER_SIZE)  # beyond net.core.rmem_max; needs CAP_NET_ADMIN
        except PermissionError:
            door.setsockopt(socket.SOL_SOCKET, plain, BUFFER_SIZE)  # the kernel grants what the host allows
