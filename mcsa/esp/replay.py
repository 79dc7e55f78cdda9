"""The anti-replay window of one SA (RFC 4303 section 3.4.3, by the bitmap of RFC 6479)."""

from __future__ import annotations

DEFAULT_WINDOW = 1_024  # packets; design, section 7
MIN_WINDOW = 64  # RFC 4303 section 3.4.3: 64 should be the default, so nobody gets less
_BLOCK_SHIFT = 6
_BLOCK_SIZE = 1 << _BLOCK_SHIFT  # bits in a block


class ReplayWindow:
    """Tells which sequence numbers were not seen before.

    Checking and remembering are two acts, because the number is believed only once the packet has proved authentic:

        if not window.is_fresh(sequence):   # cheap, before the AEAD; changes nothing
            ...                             # drop
        plaintext = decrypt(packet)         # raises where the ICV is wrong
        window.strike_out(sequence)         # only now

    Whoever strikes out before decrypting lets anybody close the window with one forged packet of a high number.

    A number below the window counts as seen. Numbers are 1 to 2^32-1 and never wrap: 0 is never fresh. One thread at a
    time: two that check the same number before either strikes it out would both accept it.

    The bits are a ring of 64-bit blocks with one block more than the window needs (RFC 6479 section 2), so that moving
    on clears whole blocks and shifts nothing.
    """

    __slots__ = ("_blocks", "_mask", "highest", "size")

    def __init__(self, size: int = DEFAULT_WINDOW) -> None:
        if size < MIN_WINDOW:
            raise ValueError(f"an anti-replay window has at least {MIN_WINDOW} packets, not {size}")
        needed = (size + _BLOCK_SIZE - 1) // _BLOCK_SIZE + 1
        count = 1 << (needed - 1).bit_length()  # a power of two, so that a mask finds the block
        self._blocks = [0] * count
        self._mask = count - 1
        self.size = size
        self.highest = 0
        """The highest number struck out; 0 at first."""

    def is_fresh(self, sequence: int) -> bool:
        """True where the number is above the window, or in it and not struck out. Changes nothing."""
        if sequence > self.highest:
            return True
        if sequence == 0 or sequence + self.size <= self.highest:
            return False
        return not self._blocks[sequence >> _BLOCK_SHIFT & self._mask] >> (sequence & _BLOCK_SIZE - 1) & 1

    def take(self, sequence: int) -> bool:
        """Remembers a number, unless it isn't fresh any more: for packets that open now and are believed later."""
        if sequence <= self.highest and not self.is_fresh(sequence):
            return False
        self.strike_out(sequence)
        return True

    def take_all(self, first: int, last: int) -> bool:
        """The same of all these numbers, where they are above all that were taken; else takes none."""
        if first <= self.highest:
            return False
        self.strike_out(first)
        self.strike_out_through(last)
        return True

    def strike_out(self, sequence: int) -> None:
        """Remembers a number that `is_fresh` allowed and whose packet opened."""
        block = sequence >> _BLOCK_SHIFT
        if sequence > self.highest:
            if block > self.highest >> _BLOCK_SHIFT:
                self._clear_through(block)
            self.highest = sequence
        self._blocks[block & self._mask] |= 1 << (sequence & _BLOCK_SIZE - 1)

    def strike_out_through(self, sequence: int) -> None:
        """Remembers all numbers above the highest, up to this one: packets that came in order and have all opened."""
        start = self.highest + 1
        while start <= sequence:
            block = start >> _BLOCK_SHIFT
            stop = min(sequence + 1, block + 1 << _BLOCK_SHIFT)
            if block > self.highest >> _BLOCK_SHIFT:
                self._clear_through(block)
            self._blocks[block & self._mask] |= (1 << stop - start) - 1 << (start & _BLOCK_SIZE - 1)
            self.highest = stop - 1
            start = stop

    def _clear_through(self, new: int) -> None:
        """Clears the blocks that come into the ring with `new`: each once, however far the number jumped."""
        blocks, mask = self._blocks, self._mask
        for block in range(max(self.highest >> _BLOCK_SHIFT, new - mask - 1) + 1, new + 1):
            blocks[block & mask] = 0
