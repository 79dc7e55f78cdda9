"""Listens for queriers: who asks hosts for their groups, and without whom switches that snoop forget them."""

from __future__ import annotations

import select
import socket
import struct
import time
from contextlib import ExitStack
from typing import NamedTuple

_IGMP_QUERY = 0x11  # RFC 3376 section 4: of any version
_MLD_QUERY = 130  # RFC 3810 section 5: likewise
_SO_BINDTODEVICE = 25  # asm-generic/socket.h
_ICMP6_FILTER = 1  # linux/icmpv6.h
_MLD_QUERIES_ONLY = struct.pack("=8I", *(0xFFFFFFFF ^ (n == _MLD_QUERY // 32) << _MLD_QUERY % 32 for n in range(8)))
"""struct icmp6_filter: a bit for each type that is not let through."""


class Queries(NamedTuple):
    """Whether one was heard, of either family. None where this process may not listen, or there is no such family."""

    igmp: bool | None
    mld: bool | None


def queries_heard(interface: str, within: float) -> Queries:
    """Which queries reach the interface within so many seconds (raw sockets take CAP_NET_RAW). One of this machine's
    own bridges is heard at its interface, not at its ports."""
    with ExitStack() as opened:
        doors = {family: opened.enter_context(door) for family in _FAMILIES if (door := _open(family, interface))}
        heard = dict.fromkeys(doors, False)
        deadline = time.monotonic() + within
        while waiting := [door for family, door in doors.items() if not heard[family]]:
            for door in select.select(waiting, [], [], max(0.0, deadline - time.monotonic()))[0]:
                heard[door.family] = heard[door.family] or _is_query(door)
            if time.monotonic() >= deadline:
                break
    return Queries(*(heard.get(family) for family in _FAMILIES))


_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def _open(family: int, interface: str) -> socket.socket | None:
    protocol = socket.IPPROTO_IGMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    try:
        door = socket.socket(family, socket.SOCK_RAW, protocol)
    except OSError:  # EPERM, or EAFNOSUPPORT
        return None
    door.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, interface.encode() + b"\0")
    if family == socket.AF_INET6:
        door.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, _MLD_QUERIES_ONLY)
    return door


def _is_query(door: socket.socket) -> bool:
    packet = door.recv(2_048)
    if door.family == socket.AF_INET6:  # without its IP header, and filtered by the kernel
        return packet[:1] == bytes([_MLD_QUERY])
    header = (packet[0] & 0xF) * 4  # RFC 791 section 3.1: the header's length is in words
    return packet[header : header + 1] == bytes([_IGMP_QUERY])
