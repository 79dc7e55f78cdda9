"""How long a packet to a group may be on its way out, as the kernel knows it."""

from __future__ import annotations

import socket

from mcsa.errors import Refused
from mcsa.shell.multicast_errors import Attempt
from mcsa.shell.multicast_families import interface_with

IP_MTU = 14  # linux/in.h; missing in `socket` of Python 3.11
IPV6_MTU = 24  # linux/in6.h
_MTU_OF: dict[int, tuple[int, int]] = {
    socket.AF_INET: (socket.IPPROTO_IP, IP_MTU),
    socket.AF_INET6: (socket.IPPROTO_IPV6, IPV6_MTU),
}
_ANY_PORT = 9  # nothing is sent there: connecting a UDP socket only looks up the route


def path_mtu(group: str, interface_address: str) -> int:
    """Bytes of the largest IP packet that leaves for the group in one piece, by the interface with this address.

    0 where that can't be found out: the interface is down, or has gone.
    """
    try:
        interface = interface_with(Attempt("send to", group, _ANY_PORT, interface_address))
        with socket.socket(interface.family, socket.SOCK_DGRAM) as probe:
            interface.pin(probe, 1, False)
            probe.connect(interface.socket_address(group, _ANY_PORT))
            return probe.getsockopt(*_MTU_OF[interface.family])
    except (OSError, Refused):
        return 0
