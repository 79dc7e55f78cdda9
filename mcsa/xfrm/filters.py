"""Which of a group's packets the kernel shows to the MSM: classic BPF programs for raw sockets (linux/filter.h).

The kernel opens the packets of applications and gives them to applications. The MSM needs to see few: what the
Authorizer says, packets of an epoch that it doesn't know yet, and the rest only for who is at the group's local socket.
"""

from __future__ import annotations

import struct
from collections.abc import Collection

from mcsa.esp.spi import SENDER_ID_BITS
from mcsa.updates import PORT as UPDATE_PORT
from mcsa.xfrm.state import ESP_PORT

_LDX_HEADER_LENGTH, _LDX_NUMBER = 0xB1, 0x01  # X = 4 * (first byte & 15), as the IPv4 header has it; X = k
_LD_WORD, _LD_HALF, _SHIFT_RIGHT, _JUMP_EQUAL, _RETURN = 0x40, 0x48, 0x74, 0x15, 0x06  # loads are from X + k
_ALL, _NOTHING = 0xFFFFFFFF, 0  # bytes of the packet that are shown
_UDP_HEADER = 8
_MOST_TAGS = 64  # epochs known at a time are two or three; a jump reaches 255 instructions

Program = list[bytes]


def udp_filter(version: int, known_tags: Collection[int], *, everything: bool, in_udp: bool) -> bytes:
    """For a raw socket of all UDP to the group, opened or ESP in UDP. Shown are datagrams to the update port,
    with `in_udp` packets whose SPI has none of the `known_tags`, and with `everything` all others but ESP."""
    unknown = _unless_known(_UDP_HEADER, known_tags) if in_udp else []
    rest = _step(_RETURN, _ALL if everything else _NOTHING)
    program = [
        _begin(version),
        _step(_LD_HALF, 2),  # destination port
        _step(_JUMP_EQUAL, UPDATE_PORT, if_so=2),
        _step(_JUMP_EQUAL, ESP_PORT, if_so=2) if in_udp else _step(_JUMP_EQUAL, 0),
        rest,
        _step(_RETURN, _ALL),
        *unknown,
    ]
    return b"".join(program)


def esp_filter(version: int, known_tags: Collection[int]) -> bytes:
    """For a raw socket of IP protocol 50: packets whose SPI has none of the `known_tags`."""
    return b"".join([_begin(version), *_unless_known(0, known_tags)])


def nothing() -> bytes:
    """No packet at all."""
    return _step(_RETURN, _NOTHING)


def _unless_known(offset: int, known_tags: Collection[int]) -> Program:
    tags = [0, *sorted(known_tags)[-_MOST_TAGS:]]  # no SPI of ours has tag 0
    jumps = [_step(_JUMP_EQUAL, tag, if_so=len(tags) - at) for at, tag in enumerate(tags)]
    ends = [_step(_RETURN, _ALL), _step(_RETURN, _NOTHING)]
    return [_step(_LD_WORD, offset), _step(_SHIFT_RIGHT, SENDER_ID_BITS), *jumps, *ends]


def _begin(version: int) -> bytes:
    """Raw sockets show the IP header over IPv4 and not over IPv6 (raw(7), ipv6(7))."""
    return _step(_LDX_HEADER_LENGTH, 0) if version == 4 else _step(_LDX_NUMBER, 0)


def _step(code: int, k: int, if_so: int = 0) -> bytes:
    """struct sock_filter: code, instructions to leave out if so, and if not, and a number."""
    return struct.pack("=HBBI", code, if_so, 0, k)
