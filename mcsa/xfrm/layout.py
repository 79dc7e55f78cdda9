"""The parts that states and policies share (linux/xfrm.h), each packed to its C layout with the padding written out."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

AF_INET, AF_INET6 = 2, 10
ESP, UDP = 50, 17  # IP protocol numbers
MODE_TRANSPORT = 0
UNLIMITED = (1 << 64) - 1  # XFRM_INF

SELECTOR_SIZE, ID_SIZE, LIFETIME_SIZE, CURRENT_SIZE, STATS_SIZE = 56, 24, 64, 32, 12
ADDRESS_SIZE = 16
SELECTOR_FAMILY_AT = 40  # behind two addresses and four port numbers
_EVERY_PORT = 0, 0  # value and mask


def family_of(address: Address) -> int:
    """AF_INET or AF_INET6."""
    return AF_INET if address.version == 4 else AF_INET6


def pack_address(address: Address) -> bytes:
    """xfrm_address_t: 16 bytes, an IPv4 address in the first four."""
    return address.packed.ljust(ADDRESS_SIZE, b"\0")


def parse_address(raw: bytes, family: int) -> Address:
    """The reverse; `family` says how many bytes count."""
    return IPv4Address(raw[:4]) if family == AF_INET else IPv6Address(raw[:16])


@dataclass(frozen=True, slots=True)
class Selector:
    """Which packets: UDP to this address, from this one (None: from any), to this port (None: to any).

    struct xfrm_selector, 56 bytes: destination 16, source 16, four big-endian 16-bit numbers (destination port, its
    mask, source port, its mask), family 16 bits, prefix lengths of destination and source, protocol, 3 of padding,
    interface and user, 32 bits each.
    """

    destination: Address
    source: Address | None = None
    destination_port: int | None = None

    def encode(self) -> bytes:
        """The 56 bytes."""
        bits = self.destination.max_prefixlen
        source = b"\0" * ADDRESS_SIZE if self.source is None else pack_address(self.source)
        port = _EVERY_PORT if self.destination_port is None else (self.destination_port, 0xFFFF)
        return (
            pack_address(self.destination)
            + source
            + struct.pack("!4H", *port, *_EVERY_PORT)
            + struct.pack("=HBBB3xiI", family_of(self.destination), bits, 0 if self.source is None else bits, UDP, 0, 0)
        )


def pack_id(destination: Address | None, spi: int) -> bytes:
    """struct xfrm_id, 24 bytes: destination 16, SPI 4 (big-endian), protocol, 3 of padding."""
    address = b"\0" * ADDRESS_SIZE if destination is None else pack_address(destination)
    return address + struct.pack("!IB3x", spi, ESP)


def pack_lifetime(seconds: int = 0, warn_after: int | None = None) -> bytes:
    """struct xfrm_lifetime_cfg, 64 bytes: soft and hard limits of bytes, of packets, of seconds since the making, of
    seconds since the first use. Only the hard limit of age (0: none) and the soft one of packets are ever set here."""
    soft_packets = UNLIMITED if warn_after is None else warn_after
    return struct.pack("=8Q", UNLIMITED, UNLIMITED, soft_packets, UNLIMITED, 0, seconds, 0, 0)
