"""Listens for a querier: who asks hosts for their groups, and without whom switches that snoop forget them."""

from __future__ import annotations

import select
import socket
import time

_QUERY = 0x11  # RFC 3376 section 4: an IGMP query of any version
_SO_BINDTODEVICE = 25  # asm-generic/socket.h


def query_heard(interface: str, within: float) -> bool | None:
    """Whether an IGMP query reaches the interface within so many seconds; None without the right to listen (raw
    sockets take CAP_NET_RAW). One of this machine's own bridges is heard at its interface, not at its ports."""
    try:
        door = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
    except PermissionError:
        return None
    with door:
        door.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, interface.encode() + b"\0")
        deadline = time.monotonic() + within
        while select.select([door], [], [], max(0.0, deadline - time.monotonic()))[0]:
            packet = door.recv(2_048)
            header = (packet[0] & 0xF) * 4  # RFC 791 section 3.1: the header's length is in words
            if packet[header : header + 1] == bytes([_QUERY]):
                return True
    return False
