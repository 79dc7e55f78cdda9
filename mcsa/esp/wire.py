"""ESP on the network: in UDP (a private profile of RFC 3948) or as IP protocol 50.

In UDP, port 4500, the first four bytes of a datagram say what it is: an SPI, which is never 0, or the non-ESP marker,
four zero bytes, before IKE. A single byte 0xFF keeps a NAT's mapping alive (RFC 3948 sections 2.1 to 2.3). Of protocol
50 a raw socket hands over the IPv4 header too.
"""

from __future__ import annotations

from mcsa.errors import Rejected

ESP_PORT = 4500  # RFC 3948 section 2
ESP_PROTOCOL = 50  # RFC 4303 section 2
NON_ESP_MARKER = bytes(4)
KEEPALIVE = b"\xff"
_MIN_IPV4_HEADER = 20  # RFC 791 section 3.1


def parse_udp(datagram: memoryview) -> memoryview | None:
    """The ESP packet of a UDP payload; None for a keepalive, which asks for nothing.

    `Rejected("short")` where there is no SPI, `Rejected("non-esp")` where it is IKE.
    """
    if datagram == KEEPALIVE:
        return None
    if len(datagram) < len(NON_ESP_MARKER):
        raise Rejected("short")
    if datagram[:4] == NON_ESP_MARKER:
        raise Rejected("non-esp")
    return datagram


def parse_ip(datagram: memoryview) -> memoryview:
    """The ESP packet of an IPv4 datagram as a raw socket gives it. `Rejected("short")`, `Rejected("non-esp")`."""
    if len(datagram) < _MIN_IPV4_HEADER:
        raise Rejected("short")
    version, header_size = datagram[0] >> 4, (datagram[0] & 0x0F) * 4
    if version != 4 or header_size < _MIN_IPV4_HEADER or datagram[9] != ESP_PROTOCOL:
        raise Rejected("non-esp")
    return datagram[header_size:]
