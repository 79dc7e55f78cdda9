"""What multicast sockets of IPv4 and IPv6 ask the kernel for: the same things, by other options.

An interface is named by an address that it has. `socket` of Python 3.11 lacks several option numbers; they are here,
from the kernel's headers (linux/in.h, linux/in6.h).
"""

from __future__ import annotations

import socket
import struct
from typing import Any, NamedTuple, Protocol

from mcsa.addresses import canonical, parse_address
from mcsa.errors import Refused
from mcsa.shell.interfaces import ipv6_interface
from mcsa.shell.multicast_errors import CODE, Attempt

IP_PKTINFO = 8
IP_MTU_DISCOVER = 10
IP_ADD_SOURCE_MEMBERSHIP = 39
IP_DROP_SOURCE_MEMBERSHIP = 40
IP_MULTICAST_ALL = 49
IPV6_MTU_DISCOVER = 23
IPV6_MULTICAST_ALL = 29
MCAST_JOIN_GROUP = 42
MCAST_LEAVE_GROUP = 45
MCAST_JOIN_SOURCE_GROUP = 46
MCAST_LEAVE_SOURCE_GROUP = 47
_PMTUDISC_PROBE = 3  # sets "don't fragment", and asks for nothing else but the interface's own MTU

SocketAddress = tuple[Any, ...]
Ancillary = tuple[tuple[int, int, bytes], ...]


class Membership(NamedTuple):
    """What leaves a group again: level, option and value of a `setsockopt`."""

    level: int
    option: int
    request: bytes


class Interface(Protocol):
    """One interface, and one family of addresses on it."""

    family: int
    any_address: str
    ancillary: Ancillary
    """Goes with every send: makes the interface's address the source."""

    def pin(self, door: socket.socket, hops: int, loop: bool) -> None:
        """Sends leave by this interface, and nothing comes in that this socket didn't join. `OSError`."""

    def keep_whole(self, door: socket.socket) -> None:
        """What is longer than the interface's MTU is refused, never cut."""

    def show_destinations(self, door: socket.socket) -> None:
        """Each datagram tells where it was sent to: `destination`."""

    def destination(self, kind: int, value: bytes) -> str | None:
        """The destination's canonical text, if this control message is the one that tells it."""

    def join(self, door: socket.socket, attempt: Attempt) -> Membership:
        """Joins `attempt.group`, from `attempt.source` or from anyone. Raises `Refused`."""

    def socket_address(self, address: str, port: int) -> SocketAddress:
        """As `bind` and `sendto` take it."""


def interface_with(attempt: Attempt) -> Interface:
    """The interface that has `attempt.interface_address`. Raises `Refused` where that is no address, or an IPv6 one
    that no interface has."""
    try:
        address = parse_address(attempt.interface_address)
    except ValueError as error:
        raise Refused(CODE, "interface address", f"{error}. See which there are: ip address") from None
    with attempt.explained():
        return Ipv4Interface(str(address)) if address.version == 4 else Ipv6Interface(attempt.interface_address)


class Ipv4Interface:
    """Named by its address in every request: the kernel finds it, and says where there is none."""

    family: int = socket.AF_INET
    any_address = "0.0.0.0"  # noqa: S104 - a listener is shown what was sent to its groups only
    ancillary: Ancillary = ()

    def __init__(self, address: str) -> None:
        self._address = address

    def pin(self, door: socket.socket, hops: int, loop: bool) -> None:
        # Sends leave by this interface, with its address as source, whatever the routing table prefers: receivers
        # compare the source with the roster.
        door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, self._ip_mreqn(self.any_address))
        door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, hops)
        door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, loop)
        # By default Linux gives a socket what any socket of the host has joined, on any interface, from any source.
        door.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)

    def keep_whole(self, door: socket.socket) -> None:
        door.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, _PMTUDISC_PROBE)

    def show_destinations(self, door: socket.socket) -> None:
        door.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)

    def destination(self, kind: int, value: bytes) -> str | None:
        # struct in_pktinfo: interface index, local address, destination; 4 bytes each.
        return socket.inet_ntoa(value[8:12]) if kind == IP_PKTINFO else None

    def join(self, door: socket.socket, attempt: Attempt) -> Membership:
        join, leave, request = socket.IP_ADD_MEMBERSHIP, socket.IP_DROP_MEMBERSHIP, self._ip_mreqn(attempt.group)
        if attempt.source:
            # struct ip_mreq_source: on Linux multicast address, interface, source (BSD has another order).
            join, leave = IP_ADD_SOURCE_MEMBERSHIP, IP_DROP_SOURCE_MEMBERSHIP
            request = b"".join(map(socket.inet_aton, (attempt.group, self._address, attempt.source)))
        with attempt.explained():
            door.setsockopt(socket.IPPROTO_IP, join, request)
        return Membership(socket.IPPROTO_IP, leave, request)

    def socket_address(self, address: str, port: int) -> SocketAddress:
        return address, port

    def _ip_mreqn(self, group: str) -> bytes:
        """struct ip_mreqn; interface index 0: the one that has this address."""
        return struct.pack("=4s4si", socket.inet_aton(group), socket.inet_aton(self._address), 0)


class Ipv6Interface:
    """Named by its index, which its address tells.

    The source address goes with every send: Linux takes but the interface from an IPV6_PKTINFO that a socket is given
    once for all (RFC 3542 section 6.2), and then chooses among the interface's addresses by itself.
    """

    family: int = socket.AF_INET6
    any_address = "::"

    def __init__(self, address: str) -> None:
        self._index = ipv6_interface(address)
        # struct in6_pktinfo: address, interface index
        source = struct.pack("=16si", socket.inet_pton(socket.AF_INET6, canonical(address)), self._index)
        self.ancillary: Ancillary = ((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, source),)

    def pin(self, door: socket.socket, hops: int, loop: bool) -> None:
        door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, self._index)
        door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, hops)
        door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, loop)
        door.setsockopt(socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)
        if door.type != socket.SOCK_RAW:  # a raw socket has no port, and the kernel refuses it this option (EINVAL)
            door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # the port stays free for IPv4's listeners

    def keep_whole(self, door: socket.socket) -> None:
        door.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)

    def show_destinations(self, door: socket.socket) -> None:
        door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)

    def destination(self, kind: int, value: bytes) -> str | None:
        if kind != socket.IPV6_PKTINFO:
            return None
        return socket.inet_ntop(socket.AF_INET6, value[:16])

    def join(self, door: socket.socket, attempt: Attempt) -> Membership:
        # struct group_req, group_source_req (RFC 3678 section 5): index, then addresses with 8-byte alignment.
        request = struct.pack("=I4x", self._index) + _storage(attempt.group)
        join, leave = MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP
        if attempt.source:
            request += _storage(attempt.source)
            join, leave = MCAST_JOIN_SOURCE_GROUP, MCAST_LEAVE_SOURCE_GROUP
        with attempt.explained():
            door.setsockopt(socket.IPPROTO_IPV6, join, request)
        return Membership(socket.IPPROTO_IPV6, leave, request)

    def socket_address(self, address: str, port: int) -> SocketAddress:
        return canonical(address), port, 0, self._index


def _storage(address: str) -> bytes:
    """struct sockaddr_storage (128 bytes) with a sockaddr_in6: family, port, flow, address, scope."""
    packed = socket.inet_pton(socket.AF_INET6, address)
    return struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, packed, 0).ljust(128, b"\0")
