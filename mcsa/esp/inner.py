"""What is inside an ESP packet: a real UDP header, the payload, and the ESP trailer (RFC 4303 sections 2.4 to 2.6).

    source port (2) | destination port (2) | UDP length (2) | UDP checksum (2) | payload
    | padding 1, 2, 3 ... (0 to 3 bytes) | pad length (1) | next header 17 (1)

Over IPv4 the UDP checksum we write is 0, "none was computed" (RFC 768): the ICV covers every bit far better, and any
UDP receiver takes it, tshark and the kernel's included. Over IPv6 it is a real one (`checksum.py`). The one we read may
be anything, since the ICV has been checked by then.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from mcsa.esp.slab import Layout

UDP_HEADER = struct.Struct(">HHHH")
UDP_HEADER_SIZE = 8
UDP_CHECKSUM_AT = 6  # its last 2 bytes
PORTS = struct.Struct(">HH")  # the first of it
PORTS_AND_LENGTH = 6  # bytes of it: all but the checksum
NEXT_HEADER_UDP = 17  # IANA protocol numbers
TRAILER_SIZE = 2  # pad length and next header
ALIGNMENT = 4  # RFC 4303 section 2.4: the trailer ends on a 4-byte boundary
MAX_PADDING = ALIGNMENT - 1  # what we write; what we read may have up to 255 bytes
MAX_PAYLOAD = 65_462  # bytes; with all around it 65,504, the most that UDP over IPv4 carries in whole words

PADDING = bytes(range(1, 256))  # RFC 4303 section 2.4: 1, 2, 3 ... for receivers to check
# The four trailers, by padding bytes.
_TRAILERS = [PADDING[:n] + bytes((n, NEXT_HEADER_UDP)) for n in range(ALIGNMENT)]


@lru_cache(maxsize=1024)
def frame_for(payload_size: int, source_port: int, destination_port: int) -> tuple[bytes, bytes]:
    """What goes before and after a payload of this size. Media repeat a few sizes and ports: cached."""
    if payload_size > MAX_PAYLOAD:
        raise ValueError(f"a payload of {payload_size} bytes is longer than {MAX_PAYLOAD}")
    header = UDP_HEADER.pack(source_port, destination_port, UDP_HEADER_SIZE + payload_size, 0)
    return header, _TRAILERS[-(UDP_HEADER_SIZE + payload_size + TRAILER_SIZE) % ALIGNMENT]


def framed_size(payload_size: int) -> int:
    """Bytes of header, payload and trailer together."""
    unpadded = UDP_HEADER_SIZE + payload_size + TRAILER_SIZE
    return unpadded + -unpadded % ALIGNMENT


class Framing(NamedTuple):
    """What surrounds a payload, checked. A plaintext of this size that begins and ends like this is framed alike."""

    size: int  # of the plaintext, in bytes
    head: bytes  # ports and UDP length; the checksum is each packet's own
    trailer: bytes  # padding, pad length, next header
    payload_end: int
    source_port: int
    destination_port: int


NO_FRAMING = Framing(-1, b"", b"", 0, 0, 0)


def parse_framing(plaintext: bytes) -> Framing | None:
    """How this plaintext is framed; None where it is malformed (`payload_end`)."""
    end = payload_end(plaintext)
    if not end:
        return None
    return Framing(len(plaintext), plaintext[:PORTS_AND_LENGTH], plaintext[end:], end, *PORTS.unpack_from(plaintext))


def alike_payloads(layout: Layout, start: int, end: int) -> list[bytes] | None:
    """The payloads of these packets of a layout, where all are framed alike; None where they aren't, or malformed.

    Alike means: ports, UDP length and all of the trailer. The UDP checksum is each packet's own, and not looked at.
    """
    count, size = end - start, layout.plaintext_size
    first = layout.plaintexts[start]
    payload_ends = payload_end(first)
    if not payload_ends:
        return None
    padding = size - TRAILER_SIZE - payload_ends
    for field in (layout.ports, layout.lengths, layout.trailers if padding < 2 else layout.last_words):
        column = field[start:end].tobytes()
        if column != column[: field.itemsize] * count:
            return None
    inside = layout.plaintext[start * size : end * size]
    for n in range(payload_ends, payload_ends + padding % 2 if padding < 4 else size):  # what no word has shown
        if inside[n::size].tobytes() != bytes((first[n],)) * count:
            return None
    return list(chain.from_iterable(_payload_in(payload_ends, size).iter_unpack(inside)))


@lru_cache(maxsize=1024)
def _payload_in(payload_ends: int, size: int) -> struct.Struct:
    """Finds the payload in each plaintext of `size` bytes."""
    return struct.Struct(f"{UDP_HEADER_SIZE}x{payload_ends - UDP_HEADER_SIZE}s{size - payload_ends}x")


def payload_end(plaintext: bytes | memoryview) -> int:
    """Where the payload ends; it begins after the 8 bytes of the UDP header. 0 where the inside is malformed.

    Malformed is: shorter than its parts, next header other than UDP, padding that isn't 1, 2, 3 ..., or a UDP length
    that isn't the size of header and payload. It takes a member that holds the key to make one.
    """
    size = len(plaintext)
    if size < UDP_HEADER_SIZE + TRAILER_SIZE or plaintext[-1] != NEXT_HEADER_UDP:
        return 0
    padding = plaintext[-2]
    end = size - TRAILER_SIZE - padding
    if end != plaintext[4] << 8 | plaintext[5] or end < UDP_HEADER_SIZE:
        return 0
    if padding and plaintext[end:-TRAILER_SIZE] != PADDING[:padding]:
        return 0
    return end
