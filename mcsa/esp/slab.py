"""A buffer in which ESP packets of one size lie one after another, as UDP_SEGMENT sends and UDP_GRO receives them."""

from __future__ import annotations

import sys
from array import array

from mcsa.esp.suite import ICV_SIZE, IV_SIZE, SALT_SIZE

ASSOCIATED_SIZE = 8  # bytes: SPI and sequence number, the associated data (RFC 4106 section 5)
HEADER_SIZE = ASSOCIATED_SIZE + IV_SIZE  # SPI, sequence number, IV (RFC 4106 section 3)
OVERHEAD = HEADER_SIZE + ICV_SIZE  # bytes that a packet has more than its plaintext
SLAB_SIZE = 1 << 16  # bytes: more than any UDP datagram, so more than any batch
WORD = 4  # bytes; RFC 4303 section 2.4: packets are whole words, and so are the fields of their headers
LITTLE_ENDIAN = sys.byteorder == "little"
_MAX_LAYOUTS = 64  # sizes whose views are kept; whoever sends to us chooses sizes, so there is a bound
_NONCE_SIZE = SALT_SIZE + IV_SIZE


class Layout:
    """Views of packets of one size, made once: of each packet's parts, and of one field in all packets together.

    A field of all packets is a view with a stride, so that it is read or written in one operation of C. All packets
    have room for their plaintexts, too, one after another in a buffer of their own, and for their nonces.
    """

    __slots__ = (
        "_packets",
        "_segment_size",
        "associated",
        "bodies",
        "checksums",
        "iv_highs",
        "iv_lows",
        "last_words",
        "lengths",
        "plaintext",
        "plaintext_size",
        "plaintexts",
        "ports",
        "sequences",
        "spis",
        "trailers",
    )

    def __init__(self, packets: memoryview, plaintext: memoryview, segment_size: int) -> None:
        """Of packets of `segment_size` bytes: whole words, and more than `OVERHEAD`."""
        self._packets = packets
        self._segment_size = segment_size
        self.associated: list[memoryview] = []
        self.bodies: list[memoryview] = []  # all that comes after the header
        self.plaintexts: list[memoryview] = []
        self.plaintext = plaintext
        size = self.plaintext_size = segment_size - OVERHEAD
        most = len(packets) // segment_size
        words, step = packets.cast("I"), segment_size // WORD
        self.spis, self.sequences, self.iv_highs, self.iv_lows = (words[n : most * step : step] for n in range(4))
        words, step = plaintext.cast("I"), size // WORD
        self.ports = words[: most * step : step]  # both, of the inner UDP header
        self.last_words = words[step - 1 : most * step : step]
        halves, step = plaintext.cast("H"), size // 2
        self.lengths = halves[2 : most * step : step]
        self.checksums = halves[3 : most * step : step]
        self.trailers = halves[step - 1 : most * step : step]  # pad length and next header

    def extend(self, count: int) -> None:
        """So that there are views of so many packets, at least."""
        size, plaintext_size = self._segment_size, self.plaintext_size
        for n in range(len(self.bodies), count):
            start, plain = n * size, n * plaintext_size
            self.associated.append(self._packets[start : start + ASSOCIATED_SIZE])
            self.bodies.append(self._packets[start + HEADER_SIZE : start + size])
            self.plaintexts.append(self.plaintext[plain : plain + plaintext_size])

    def packet(self, number: int) -> memoryview:
        """The whole packet, counted from 0."""
        start = number * self._segment_size
        return self._packets[start : start + self._segment_size]


class Slab:
    """65,536 bytes of packets, room for their plaintexts and nonces, and views that are made once for each packet size.

    One thread's. What is in it holds until that thread's next batch.
    """

    __slots__ = (
        "_headed",
        "_layouts",
        "_nonce_buffer",
        "_nonce_words",
        "_salt",
        "buffer",
        "nonces",
        "plaintext",
        "view",
    )

    def __init__(self) -> None:
        self.buffer = bytearray(SLAB_SIZE)
        self.view = memoryview(self.buffer)
        self.plaintext = memoryview(bytearray(SLAB_SIZE))
        self.nonces: list[memoryview] = []  # salt and IV, by packet: see `write_nonces`
        self._nonce_buffer = memoryview(bytearray(SLAB_SIZE // OVERHEAD * _NONCE_SIZE))
        self._nonce_words = self._nonce_buffer.cast("I")
        self._salt = bytes(SALT_SIZE)
        self._layouts: dict[int, Layout] = {}
        self._headed: tuple[Layout | None, int, bytes, int] = None, 0, b"", 0  # whose headers are there, and how many

    def layout(self, segment_size: int, count: int) -> Layout:
        """Views of the first `count` packets of this size, or of more. The size is as `Layout` says."""
        layout = self._layouts.get(segment_size)
        if layout is None:
            if len(self._layouts) == _MAX_LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[segment_size] = Layout(self.view, self.plaintext, segment_size)
        if len(layout.bodies) < count:
            layout.extend(count)
        for start in range(len(self.nonces) * _NONCE_SIZE, count * _NONCE_SIZE, _NONCE_SIZE):
            self.nonces.append(self._nonce_buffer[start : start + _NONCE_SIZE])
        return layout

    def write_headers(self, layout: Layout, spi: int, numbers: array[int], salt: bytes) -> None:
        """The headers of the first packets: their sequence numbers (32 bits), which are their IVs too; and the nonces.

        What all have in common stays from batch to batch, unless another size was between. The array of the numbers
        is as they are on the network afterwards.
        """
        count = len(numbers)
        if self._headed[:3] != (layout, spi, salt) or self._headed[3] < count:
            self._headed = layout, spi, salt, count
            layout.spis[:count] = array("I", spi.to_bytes(WORD, "big") * count)
            layout.iv_highs[:count] = array("I", bytes(WORD * count))
            self.write_nonces(layout, 0, count, salt)
        if LITTLE_ENDIAN:
            numbers.byteswap()
        layout.sequences[:count] = numbers
        layout.iv_lows[:count] = numbers
        self._nonce_words[2 : count * 3 : 3] = numbers

    def write_nonces(self, layout: Layout, start: int, end: int, salt: bytes) -> None:
        """The nonces of these packets, from the IVs that are in their headers."""
        if salt != self._salt:
            self._salt = salt
            self._nonce_buffer[:] = (salt + bytes(IV_SIZE)) * (len(self._nonce_buffer) // _NONCE_SIZE)
        words = self._nonce_words[start * 3 : end * 3]
        words[1::3] = layout.iv_highs[start:end]
        words[2::3] = layout.iv_lows[start:end]
