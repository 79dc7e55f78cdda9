"""Who has which leaf of a key tree: names to places, in flat arrays.

Names themselves are not kept. Of each member there is a tag of 80 bits, a hash of its name under a key that nobody else
knows, so that no choice of names makes two collide or a table slow; among a million members two tags are the same with
a chance of 2^-41. The table is open addressing with linear probing.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from hashlib import blake2b

from mcsa.errors import Rejected

TAG_SIZE = 10  # bytes
FREE = bytes(TAG_SIZE)
_FIRST_SLOTS = 8


class Places:
    """Places 0 to `size`, some of them free; the last one never is."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._tags = bytearray()
        self._slots = array("I", bytes(4 * _FIRST_SLOTS))  # place + 1; 0 where there is none
        self._free = array("I")  # all that are free, and perhaps some that aren't
        self.members = 0

    @property
    def size(self) -> int:
        """How many places there are, free ones included."""
        return len(self._tags) // TAG_SIZE

    def tag(self, name: str) -> bytes:
        """What a name is known by here."""
        return blake2b(name.encode(), digest_size=TAG_SIZE, key=self._key).digest()

    def find(self, tag: bytes) -> int | None:
        """The place of who has this tag."""
        slots, tags, mask = self._slots, self._tags, len(self._slots) - 1
        slot = int.from_bytes(tag, "little") & mask
        while entry := slots[slot]:
            if tags[(entry - 1) * TAG_SIZE : entry * TAG_SIZE] == tag:
                return entry - 1
            slot = slot + 1 & mask
        return None

    def next_free(self, limit: int) -> int:
        """A free place below `limit`, to be put into at once, or the one after the last.

        Free places from `limit` on are forgotten: whoever sets one drops what is beyond it.
        """
        while self._free:
            place = self._free.pop()
            if place < min(self.size, limit) and self.tag_at(place) == FREE:
                return place
        return self.size

    def put(self, tag: bytes, place: int) -> None:
        """Gives a free place, or the one after the last."""
        if place == self.size:
            self._tags += tag
        else:
            self._tags[place * TAG_SIZE : (place + 1) * TAG_SIZE] = tag
        self.members += 1
        if self.members * 3 > len(self._slots) * 2:
            self._rebuild(len(self._slots) * 2)
        else:
            self._enter(tag, place)

    def remove(self, place: int) -> bytes:
        """Makes a place free; returns the tag that was there."""
        tag = self.tag_at(place)
        self._forget(self._slot_of(tag, place))
        self._tags[place * TAG_SIZE : (place + 1) * TAG_SIZE] = FREE
        self._free.append(place)
        self.members -= 1
        return tag

    def move(self, place: int, target: int) -> None:
        """Takes a member to a free place."""
        self.put(self.remove(place), target)

    def tag_at(self, place: int) -> bytes:
        """Who is there, or `FREE`."""
        return bytes(self._tags[place * TAG_SIZE : (place + 1) * TAG_SIZE])

    def trim(self) -> None:
        """Drops free places at the end."""
        end = len(self._tags)
        while end and self._tags[end - TAG_SIZE : end] == FREE:
            end -= TAG_SIZE
        del self._tags[end:]
        if len(self._free) > self.size + _FIRST_SLOTS:  # repeating others' changes leaves entries behind
            self._free = array("I", reversed(list(self._find_free())))

    # ---- the table

    def _slot_of(self, tag: bytes, place: int) -> int:
        slots, mask = self._slots, len(self._slots) - 1
        slot = int.from_bytes(tag, "little") & mask
        while slots[slot] != place + 1:
            slot = slot + 1 & mask
        return slot

    def _enter(self, tag: bytes, place: int) -> None:
        slots, mask = self._slots, len(self._slots) - 1
        slot = int.from_bytes(tag, "little") & mask
        while slots[slot]:
            slot = slot + 1 & mask
        slots[slot] = place + 1

    def _forget(self, hole: int) -> None:
        """Empties a slot and moves those behind it up that could not be found otherwise."""
        slots, mask = self._slots, len(self._slots) - 1
        slot = hole
        while True:
            slot = slot + 1 & mask
            if not slots[slot]:
                break
            home = int.from_bytes(self.tag_at(slots[slot] - 1), "little") & mask
            if (slot - home) & mask >= (slot - hole) & mask:
                slots[hole], hole = slots[slot], slot
        slots[hole] = 0

    def _rebuild(self, length: int) -> None:
        self._slots = array("I", bytes(4 * length))
        for place in range(self.size):
            tag = self.tag_at(place)
            if tag != FREE:
                self._enter(tag, place)

    # ---- written down

    def dump(self) -> tuple[bytes, bytes, bytes]:
        """Key, tags and table, for `load`."""
        slots = self._slots[:]
        if sys.byteorder == "big":
            slots.byteswap()
        return self._key, bytes(self._tags), slots.tobytes()

    @classmethod
    def load(cls, key: bytes, tags: bytes, slots: bytes) -> Places:
        """The other way; `Rejected("record")` where the bytes make no sense."""
        places = cls(key)
        places._tags = bytearray(tags)
        places._slots = array("I", slots[: len(slots) // 4 * 4])
        if sys.byteorder == "big":
            places._slots.byteswap()
        places.members = len(places._slots) - places._slots.count(0)
        free = list(places._find_free())
        length = len(slots) // 4
        sizes_fit = len(key) == 32 and len(tags) % TAG_SIZE == 0 and len(slots) == 4 * length
        table_fits = length >= _FIRST_SLOTS and length & (length - 1) == 0 and places.members * 3 <= length * 2
        counts_fit = places.members + len(free) == places.size >= max(places._slots, default=0)
        if not (sizes_fit and table_fits and counts_fit and places.size - 1 not in free[-1:]):
            raise Rejected("record", "the index doesn't fit")
        places._free = array("I", reversed(free))  # the first come first
        return places

    def _find_free(self) -> Iterator[int]:
        position = self._tags.find(FREE)
        while position >= 0:
            place, offset = divmod(position, TAG_SIZE)
            if offset == 0:
                yield place
            position = self._tags.find(FREE, position + TAG_SIZE - offset)
