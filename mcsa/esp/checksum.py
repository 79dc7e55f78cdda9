"""The checksum of the inner UDP header, where the group is IPv6: there, none is not allowed (RFC 8200 section 8.1).

It covers a pseudo header (source, destination, length, next header), the UDP header and the payload (RFC 768). In
transport mode the addresses are those of the outer IP header.

The ones' complement sum of 16-bit words is the number that the bytes are, modulo 65,535: C does it for us.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

from mcsa.addresses import parse_address

_MODULUS = 0xFFFF
_NEXT_HEADER_UDP = 17


class InnerChecksum:
    """For packets from one address to one group."""

    __slots__ = ("_pseudo_header",)

    def __init__(self, source: str, group: str) -> None:
        addresses = parse_address(source).packed + parse_address(group).packed
        self._pseudo_header = int.from_bytes(addresses, "big") + _NEXT_HEADER_UDP

    def of(self, header: bytes, payload: bytes) -> bytes:
        """2 bytes, for the payload behind this UDP header, whose own checksum is 0."""
        return (_MODULUS - (self._base(header) + _sum(payload)) % _MODULUS).to_bytes(2, "big")

    def of_all(self, header: bytes, payloads: Sequence[bytes]) -> array[int]:
        """For payloads of one size, each behind such a header; numbers that are big-endian in memory."""
        base = self._base(header)
        sums = array("H", [_MODULUS - (base + _sum(payload)) % _MODULUS for payload in payloads])
        if sys.byteorder == "little":
            sums.byteswap()
        return sums

    def _base(self, header: bytes) -> int:
        """Without the payload; the length is counted twice, in the UDP header and in the pseudo header."""
        return self._pseudo_header + int.from_bytes(header, "big") + int.from_bytes(header[4:6], "big")


def inner_checksum(source: str, group: str) -> InnerChecksum | None:
    """For packets from this address to that group; None where the group is IPv4, and packets need no checksum."""
    return InnerChecksum(source, group) if ":" in group else None


def _sum(payload: bytes) -> int:
    """An odd last byte is the upper half of a word."""
    number = int.from_bytes(payload, "big")
    return (number << 8 if len(payload) % 2 else number) % _MODULUS
