"""A buffer in which ESP packets of one size lie one after another, as UDP_SEGMENT sends and UDP_GRO receives them."""

from __future__ import annotations

from mcsa.esp.suite import IV_SIZE

ASSOCIATED_SIZE = 8  # bytes: SPI and sequence number, the associated data (RFC 4106 section 5)
HEADER_SIZE = ASSOCIATED_SIZE + IV_SIZE  # SPI, sequence number, IV (RFC 4106 section 3)
SLAB_SIZE = 1 << 16  # bytes: more than any UDP datagram, so more than any batch
_MAX_LAYOUTS = 64  # sizes whose views are kept; whoever sends to us chooses sizes, so there is a bound

Layout = tuple[list[memoryview], list[memoryview]]
"""For each packet: its associated data, and all that comes after its header."""


class Slab:
    """65,536 bytes, and views of them that are made once for each packet size.

    One thread's. What is in it holds until that thread's next batch.
    """

    __slots__ = ("_layouts", "buffer", "view")

    def __init__(self) -> None:
        self.buffer = bytearray(SLAB_SIZE)
        self.view = memoryview(self.buffer)
        self._layouts: dict[int, Layout] = {}

    def layout(self, segment_size: int, count: int) -> Layout:
        """Views of the first `count` packets of this size, or of more; each packet is longer than a header."""
        if count == 1:  # not worth keeping: sizes of single packets are many
            return self.single(0, segment_size)
        layout = self._layouts.get(segment_size)
        if layout is None:
            if len(self._layouts) == _MAX_LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[segment_size] = ([], [])
        associated, bodies = layout
        for start in range(len(bodies) * segment_size, count * segment_size, segment_size):
            associated.append(self.view[start : start + ASSOCIATED_SIZE])
            bodies.append(self.view[start + HEADER_SIZE : start + segment_size])
        return layout

    def single(self, start: int, end: int) -> Layout:
        """Views of one packet that lies anywhere."""
        return [self.view[start : start + ASSOCIATED_SIZE]], [self.view[start + HEADER_SIZE : end]]
