"""A key tree in flat arrays (RFC 2627, section 5.4): the keys of the authority's half of `lkh`.

Leaves are at height 0, all of them; node i of a height has children d*i to d*i+d-1 below it, so that neither ids nor
pointers are kept, and a node never changes its id: when the tree grows, a new root is put above the old one. A node
has a key where somebody is below it, zeros otherwise. The root is at height 1 at least.

When keys change, a node's new key comes of that of one child, and is wrapped for the others. With c subtrees whose
keys nobody has who left, and which between them hold all that stay, that takes c - 1 wraps: the fewest there are,
because each wrap links two of them and in the end all must be linked. Where nobody left below a node, its new key
comes of its old one, and nothing is wrapped. A child's key that was used is replaced by its successor, in the tree and
with all that have it (`mcsa.gkm.key_derivation`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from struct import Struct

from mcsa.gkm.key_derivation import AGED, GROUP, PARENT, WRAP, grown, halves, spend
from mcsa.keys import KEY_SIZE

MAX_DEGREE = 8  # a node's children are the bits of a byte
NO_KEY = bytes(KEY_SIZE)


@dataclass(frozen=True, slots=True)
class Renewed:
    """What members need to follow; see LkhTreeChange."""

    nodes: bytes
    wrapped_keys: bytes


class KeyTree:
    """See the module. Places are the leaves' positions."""

    def __init__(self, degree: int, root: bytes) -> None:
        if not 2 <= degree <= MAX_DEGREE:
            raise ValueError(f"a key tree's degree is 2 to {MAX_DEGREE}, not {degree}")
        self.degree = degree
        self.places = 0  # leaves, those without a member included
        self.heights = [bytearray(), bytearray(root)]

    @classmethod
    def load(cls, degree: int, places: int, heights: Sequence[bytes]) -> KeyTree:
        """From `heights` as they were; `ValueError` where they are no tree's."""
        tree = cls(degree, NO_KEY)
        tree.places, tree.heights = places, [bytearray(level) for level in heights]
        sizes = [tree._size(height) for height in range(len(heights))]
        if len(heights) < 2 or degree**tree.height < places or [len(level) for level in heights] != sizes:
            raise ValueError("not a tree")
        return tree

    @property
    def height(self) -> int:
        """Of the root above the leaves."""
        return len(self.heights) - 1

    @property
    def root(self) -> bytes:
        """The key that all members have."""
        return bytes(self.heights[-1])

    @root.setter
    def root(self, key: bytes) -> None:
        self.heights[-1][:] = key

    def leaf(self, place: int) -> bytes:
        """A member's own key, or `NO_KEY`."""
        return bytes(self.heights[0][place * KEY_SIZE : (place + 1) * KEY_SIZE])

    def set_leaf(self, place: int, key: bytes) -> None:
        """Takes effect with the next `renew`."""
        self.heights[0][place * KEY_SIZE : (place + 1) * KEY_SIZE] = key

    def path(self, place: int) -> bytes:
        """The keys from a leaf to the root."""
        keys = bytearray()
        for level in self.heights:
            keys += level[place * KEY_SIZE : (place + 1) * KEY_SIZE]
            place //= self.degree
        return bytes(keys)

    def resize(self, places: int) -> None:
        """Makes room for so many places, or takes it away; those taken away are free."""
        if places == self.places:
            return
        self.places = places
        while self.degree**self.height < places:
            self.heights.append(bytearray(grown(self.root)))
        while self.height > 1 and self.degree ** (self.height - 1) >= places:
            self.heights.pop()
        for height, level in enumerate(self.heights):
            del level[self._count(height) * KEY_SIZE :]  # what is left of the children of one node is zeros
            level.extend(bytes(self._size(height) - len(level)))

    def _count(self, height: int) -> int:
        """Nodes of a height."""
        return max(-(-self.places // int(self.degree**height)), int(height == self.height))

    def _size(self, height: int) -> int:
        """Bytes of a height: all children of all nodes of the height above."""
        if height == self.height:
            return KEY_SIZE
        return -(-self._count(height) // self.degree) * self.degree * KEY_SIZE

    def renew(self, broken: Iterable[int], joined: Iterable[int], nonce: bytes, *, replace: bool) -> Renewed:
        """New keys on the paths of these places: `broken` are those that somebody left or was moved to, `joined`
        those of newcomers, who are told their paths' new keys apart from this.

        Without `replace` nobody left, and only nodes get a key that had none.
        """
        degree, below = self.degree, self.heights[0]
        renewal = _Renewal(degree, nonce, replace=replace)
        marks: dict[int, int] = {}
        for place in broken:
            marks[place // degree] = BROKEN
        for place in joined:
            node, digit = divmod(place, degree)
            marks[node] = marks.get(node, 0) | FRESH << digit
        marks = dict(sorted(marks.items()))  # from left to right, and so those of the heights above
        for level in self.heights[1:]:
            if replace and level is self.heights[-1]:
                marks.setdefault(0, 0)
            marks = renewal.renew(below, level, marks)
            below = level
        return renewal.finish()

    def draw_group_key(self, nonce: bytes) -> bytes:
        """The group key that comes of the root's, which its successor replaces."""
        key, self.root = spend(self.root, nonce, GROUP)
        return key


# A node's mark: what is known of it and of its children before its key changes.
CHANGED = 1  # shifted by a child's digit: the child is among the nodes that members are told of
FRESH = 1 << MAX_DEGREE  # shifted by a child's digit: below the child there are newcomers only
BROKEN = 1 << 2 * MAX_DEGREE  # somebody left below, or was moved to there


@cache
def _keys_of(degree: int) -> Struct:
    return Struct(f"{KEY_SIZE}s" * degree)


class _Renewal:
    """New keys for marked nodes, height by height from the leaves up."""

    def __init__(self, degree: int, nonce: bytes, *, replace: bool) -> None:
        self._degree = degree
        self._unpack = _keys_of(degree).unpack_from
        self._nonce = nonce
        self._parent, self._wrap = nonce + PARENT, nonce + WRAP
        self._replace = replace
        self._nodes = bytearray()
        self._keys: list[bytes] = []
        self._pads: list[bytes] = []  # of each of these, what hides it

    def renew(self, below: bytearray, level: bytearray, marks: dict[int, int]) -> dict[int, int]:
        """The keys of a height, given the marks of its nodes in order; returns the marks of those above."""
        above: dict[int, int] = {}
        degree, width, end, nodes = self._degree, self._degree * KEY_SIZE, len(below), self._nodes
        for node, mark in marks.items():
            start = node * width
            parent, digit = divmod(node, degree)
            outcome = mark & BROKEN
            if start < end:  # or this part of the tree is gone
                new, own, wrapped = mark // FRESH & 255, node * KEY_SIZE, 0
                if outcome:
                    key, wrapped = self._rebuild(below, start, new)
                else:
                    key = self._age(below, start, new, bytes(level[own : own + KEY_SIZE]))
                if key != NO_KEY:
                    nodes.append(mark & 255)
                    nodes.append(wrapped)
                    outcome |= CHANGED << digit
                elif new:
                    key = self._begin(below, start, new)
                    outcome |= FRESH << digit
                level[own : own + KEY_SIZE] = key
            above[parent] = above.get(parent, 0) | outcome
        return above

    def finish(self) -> Renewed:
        """All keys wrapped at once: one exclusive or instead of thousands."""
        wrapped = int.from_bytes(b"".join(self._keys), "little") ^ int.from_bytes(b"".join(self._pads), "little")
        return Renewed(bytes(self._nodes), wrapped.to_bytes(len(self._pads) * KEY_SIZE, "little"))

    def _rebuild(self, below: bytearray, start: int, new: int) -> tuple[bytes, int]:
        """A key from that of the first child below which somebody stays, wrapped for others like it; and which these
        are, as bits. `NO_KEY` where there are none. What `spend` does is written out: here a large rekey's time goes.
        """
        key, wrapped, bit, info, keys, pads = NO_KEY, 0, 1, self._parent, self._keys, self._pads
        after: list[bytes] = []
        for child in self._unpack(below, start):
            kept = child
            if child != NO_KEY and not new & bit:
                given, kept = halves(blake2b(child + info).digest())
                if wrapped:
                    pads.append(given)
                else:
                    key, info = given, self._wrap
                wrapped |= bit
            after.append(kept)
            bit += bit
        keys.append(key * (wrapped.bit_count() - 1))
        below[start : start + len(after) * KEY_SIZE] = b"".join(after)
        return key, wrapped

    def _age(self, below: bytearray, start: int, new: int, key: bytes) -> bytes:
        """What becomes of a key where nobody left; `NO_KEY` where nobody has it."""
        children = self._unpack(below, start)
        if not any(child != NO_KEY and not new >> digit & 1 for digit, child in enumerate(children)):
            return NO_KEY
        return spend(key, self._nonce, AGED)[1] if self._replace else key

    def _begin(self, below: bytearray, start: int, new: int) -> bytes:
        """The first key of a node, from that of the first child below which newcomers are."""
        at = start + ((new & -new).bit_length() - 1) * KEY_SIZE
        key, below[at : at + KEY_SIZE] = spend(bytes(below[at : at + KEY_SIZE]), self._nonce, PARENT)
        return key
