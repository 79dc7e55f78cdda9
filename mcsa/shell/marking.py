"""Traffic class and hop limit of a packet, as they pass between a socket and who uses it: by control messages.

In transport mode they are those of the packet inside (RFC 4303 section 3.1.1), so a driver that has whole packets hands
them out and in again. Numbers are from linux/in.h and linux/in6.h; `socket` of Python 3.11 lacks some.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from typing import NamedTuple

_IP_RECVTTL, _IP_RECVTOS = 12, 13
_IPV6_RECVHOPLIMIT, _IPV6_HOPLIMIT, _IPV6_RECVTCLASS, _IPV6_TCLASS = 51, 52, 66, 67
CONTROL_SIZE = 2 * socket.CMSG_SPACE(4)  # bytes of the control messages that come in

ControlMessage = tuple[int, int, bytes]


class Marking(NamedTuple):
    """Traffic class (TOS: DSCP and ECN), 0 to 255, and hop limit (TTL), 1 to 255."""

    traffic_class: int
    hop_limit: int


UNMARKED = Marking(0, 1)


def ask_for_markings(door: socket.socket) -> None:
    """From now on what is received tells its marking."""
    if door.family == socket.AF_INET6:
        wanted = [(socket.IPPROTO_IPV6, _IPV6_RECVTCLASS), (socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT)]
    else:
        wanted = [(socket.IPPROTO_IP, _IP_RECVTOS), (socket.IPPROTO_IP, _IP_RECVTTL)]
    for level, option in wanted:
        door.setsockopt(level, option, 1)


def write_marking(marking: Marking, family: int) -> tuple[ControlMessage, ...]:
    """What to send a packet with, so that it has this marking."""
    traffic_class, hop_limit = (number.to_bytes(4, sys.byteorder) for number in marking)
    if family == socket.AF_INET6:
        return (
            (socket.IPPROTO_IPV6, _IPV6_TCLASS, traffic_class),
            (socket.IPPROTO_IPV6, _IPV6_HOPLIMIT, hop_limit),
        )
    return (socket.IPPROTO_IP, socket.IP_TOS, traffic_class), (socket.IPPROTO_IP, socket.IP_TTL, hop_limit)


def read_marking(ancillary: Iterable[ControlMessage], before: Marking = UNMARKED) -> Marking:
    """The marking of what came with these control messages, or the one before where they don't say."""
    traffic_class, hop_limit = before
    for level, kind, value in ancillary:
        if level == socket.IPPROTO_IP:
            if kind == socket.IP_TOS:
                traffic_class = value[0]  # one byte, where the others are `int`
            elif kind == socket.IP_TTL:
                hop_limit = int.from_bytes(value, sys.byteorder)
        elif level == socket.IPPROTO_IPV6:
            if kind == _IPV6_TCLASS:
                traffic_class = int.from_bytes(value, sys.byteorder)
            elif kind == _IPV6_HOPLIMIT:
                hop_limit = int.from_bytes(value, sys.byteorder)
    return Marking(traffic_class, hop_limit)
