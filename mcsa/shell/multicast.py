"""The door to multicast groups: UDP sockets that join by IGMPv3, each on one interface.

Linux only. `socket` of Python 3.11 lacks several option numbers; they are here, from the kernel's headers
(linux/in.h, asm-generic/socket.h). What the kernel refuses becomes a `Refused`, code "multicast-socket", whose
sentence has the command that mends it.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from mcsa.errors import Refused
from mcsa.shell.multicast_errors import CODE, RAW, Attempt

IP_PKTINFO = 8
IP_MTU_DISCOVER = 10
IP_ADD_SOURCE_MEMBERSHIP = 39
IP_DROP_SOURCE_MEMBERSHIP = 40
IP_MULTICAST_ALL = 49
_IP_PMTUDISC_PROBE = 3  # sets "don't fragment", and asks for nothing else but the interface's own MTU
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
_SIOCGIFADDR = 0x8915

IPPROTO_ESP = 50  # IANA protocol numbers
ESP_PORT = 4500  # RFC 3948 section 2: the port of UDP-encapsulated ESP
BUFFER_SIZE = 8 << 20  # bytes: 60 ms of a full 1 Gbit/s link, even if the kernel's own overhead is left out
_SOURCE_SPECIFIC = ipaddress.IPv4Network("232.0.0.0/8")  # RFC 4607 section 1
_LARGEST_DATAGRAM = 65_535


def interface_addresses() -> dict[str, str]:
    """The interfaces of this network namespace that have an IPv4 address: name to (first) address."""
    addresses = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has none
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()))
                addresses[name] = socket.inet_ntoa(answer[20:24])  # struct ifreq: name (16), family (2), port (2)
    return addresses


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
        self.group = group
        self.port = port
        self.interface_address = interface_address
        self.sources = tuple(sources)
        self._leave: list[tuple[int, bytes]] = []
        _check_group(group, self.sources or not bind_group)
        with self._attempt(RAW).explained():
            self.socket = (
                socket.socket(socket.AF_INET, socket.SOCK_RAW, IPPROTO_ESP)
                if raw_esp
                else socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            )
        try:
            _pin(self.socket, self._attempt("send to"), ttl, loop)
            # Senders to several groups have the same address and port, so those may always share it.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, shared or not bind_group)
            if not fragment:
                self.socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
            with self._attempt("bind to").explained():
                # A socket bound to the group's address is shown no unicast and no other group on this port.
                self.socket.bind((group if bind_group else interface_address, port))
            if bind_group:
                self._join()
        except BaseException:
            self.socket.close()
            raise

    def _attempt(self, doing: str, source: str = "", earlier_sources: int = 0) -> Attempt:
        return Attempt(doing, self.group, self.port, self.interface_address, source, earlier_sources)

    def _join(self) -> None:
        if not self.sources:
            self._leave.append((socket.IP_DROP_MEMBERSHIP, _join_any(self.socket, self._attempt("join"))))
        for earlier, source in enumerate(self.sources):
            # struct ip_mreq_source: on Linux multicast address, interface, source (BSD has another order).
            request = b"".join(map(socket.inet_aton, (self.group, self.interface_address, source)))
            with self._attempt("join", source, earlier).explained():
                self.socket.setsockopt(socket.IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, request)
            self._leave.append((IP_DROP_SOURCE_MEMBERSHIP, request))

    def send(self, payload: bytes) -> None:
        """Sends one datagram to the group."""
        with self._attempt("send to").explained():
            self.socket.sendto(payload, (self.group, self.port))

    @property
    def receive_buffer(self) -> int:
        """Bytes that the kernel granted for datagrams waiting to be read (half is its own overhead)."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def close(self) -> None:
        """Leaves the group, at once and even where a child has inherited the socket, and closes."""
        if self.socket.fileno() >= 0:
            for option, request in self._leave:
                with suppress(OSError):  # the interface has gone, and the membership with it
                    self.socket.setsockopt(socket.IPPROTO_IP, option, request)
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
    with whatever other listener this host runs. One socket may join 20 groups (net.ipv4.igmp_max_memberships).
    Raises `Refused`.
    """

    def __init__(
        self, groups: Sequence[str], port: int, interface_address: str, ttl: int = 255, loop: bool = True
    ) -> None:
        self.groups = frozenset(groups)
        self.port = port
        self.interface_address = interface_address
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.socket.setblocking(False)
            _pin(self.socket, Attempt("listen on", "", port, interface_address), ttl, loop)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # VLC and ffmpeg have this port too
            self.socket.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)  # says to which group a datagram was sent
            with Attempt("bind to", "", port, interface_address).explained():
                self.socket.bind(("", port))
            for group in groups:
                _check_group(group, allowed=False)
                _join_any(self.socket, Attempt("join", group, port, interface_address))
        except BaseException:
            self.socket.close()
            raise

    def receive(self) -> Heard | None:
        """The next datagram that was sent to one of the groups; None where none waits. Unicast is dropped."""
        while True:
            try:
                payload, ancillary, _, source = self.socket.recvmsg(_LARGEST_DATAGRAM, socket.CMSG_SPACE(12))
            except BlockingIOError:
                return None
            for _, kind, value in ancillary:
                # struct in_pktinfo: interface index, local address, destination; 4 bytes each.
                if kind == IP_PKTINFO and (group := socket.inet_ntoa(value[8:12])) in self.groups:
                    return Heard(payload, source[0], source[1], group)

    def send(self, payload: bytes, group: str) -> None:
        """Sends one datagram to a group on this port."""
        with Attempt("send to", group, self.port, self.interface_address).explained():
            self.socket.sendto(payload, (group, self.port))


def _check_group(group: str, allowed: object) -> None:
    address = ipaddress.IPv4Address(group)
    if not address.is_multicast:
        raise Refused(CODE, "RFC 5771", f"{group} is no multicast address: choose one in 224.0.0.0/4.")
    if address in _SOURCE_SPECIFIC and not allowed:
        raise Refused(CODE, "RFC 4607", f"{group} is source-specific: name its sources, or choose one in 239.0.0.0/8.")


def _pin(door: socket.socket, attempt: Attempt, ttl: int, loop: bool) -> None:
    """What every multicast socket here has: one interface, a scope, room, and no other socket's groups."""
    # Sends leave by this interface, with its address as source, whatever the routing table prefers: receivers
    # compare the source with the roster. struct ip_mreqn; interface index 0: the one that has this address.
    interface = _ip_mreqn("0.0.0.0", attempt.interface_address)  # noqa: S104 - no group, not "all interfaces"
    with attempt.explained():
        door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
    door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
    door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, loop)
    # By default Linux gives a socket what any socket of the host has joined, on any interface and from any source.
    door.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
    for forced, plain in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            door.setsockopt(socket.SOL_SOCKET, forced, BUFFER_SIZE)  # beyond net.core.rmem_max; needs CAP_NET_ADMIN
        except PermissionError:
            door.setsockopt(socket.SOL_SOCKET, plain, BUFFER_SIZE)  # the kernel grants what the host allows


def _join_any(door: socket.socket, attempt: Attempt) -> bytes:
    request = _ip_mreqn(attempt.group, attempt.interface_address)
    with attempt.explained():
        door.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    return request


def _ip_mreqn(group: str, interface_address: str) -> bytes:
    return struct.pack("=4s4si", socket.inet_aton(group), socket.inet_aton(interface_address), 0)
