"""What the kernel dropped because a program was too slow: a socket's buffer was full."""

from __future__ import annotations

import socket
import struct

SO_MEMINFO = 55  # asm-generic/socket.h; missing in `socket` of Python 3.11
_MEMORY = struct.Struct("=9I")
_DROPS = 8  # SK_MEMINFO_DROPS, linux/sock_diag.h


def overruns(door: socket.socket) -> int:
    """Datagrams that were for this socket and are lost, modulo 2^32; 0 of a closed one.

    The kernel tells it when it is asked: packets that are read cost nothing more. What offload had joined counts as
    one, and so do datagrams with a wrong UDP checksum.
    """
    if door.fileno() < 0:
        return 0
    told: tuple[int, ...] = _MEMORY.unpack(door.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMORY.size))
    return told[_DROPS]
