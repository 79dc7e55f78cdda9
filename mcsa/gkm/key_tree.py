"""A key tree in flat arrays (RFC 2627, section 5.4): the keys of the authority's half of `lkh`.

Leaves are at height 0, all of them; node i of a height has children d*i to d*i+d-1 below it, so that neither ids nor
pointers are kept, and a node never changes its id: when the tree grows, a new root is put above the old one. A node
has a key where somebody is below it, zeros otherwise. The root is at height 1 at least.

When keys change, a node's new key derives from that of one child, and is wrapped for the others. With c subtrees whose
keys nobody has who left, and which between them hold all that stay, that takes c - 1 wraps: the fewest there are,
because each wrap links two of them and in the end all must be linked. Where nobody left below a node, its new key
derives from its old one, and nothing is wrapped.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from mcsa.keys import KEY_SIZE

NONCE_SIZE = 16
CONFIRMATION_SIZE = 16
MAX_DEGREE = 8  # a node's children are the bits of a byte
NO_KEY = bytes(KEY_SIZE)
BIT_COUNTS = bytes(byte.bit_count() for byte in range(256))
WRAP_COUNTS = bytes(max(byte.bit_count() - 1, 0) for byte in range(256))  # the first child's is derived

_COUNTER = (1).to_bytes(4, "big")
PARENT, WRAP, AGED, GROWN, GROUP, CONFIRM, RECORD = b"par", b"wra", b"age", b"gro", b"grp", b"con", b"rec"


def derive(key: bytes, nonce: bytes, purpose: bytes) -> bytes:
    """32 bytes from a key: the one-step derivation of NIST SP 800-56C with SHA-256.

    The hash's input is counter (4 bytes) || key (32) || nonce (16) || purpose (3): lengths are fixed, and all of it is
    one block of SHA-256. HMAC and HKDF take four, and there are 18,000 of them in a rekey after 1,000 leaves.
    """
    return sha256(_COUNTER + key + nonce + purpose).digest()


def grown(root: bytes) -> bytes:
    """The key of a new root above a root: whoever has the old one's has it without being told."""
    return derive(root, bytes(NONCE_SIZE), GROWN)


def confirm(key: bytes, nonce: bytes, purpose: bytes, raw: bytes) -> bytes:
    """16 bytes that show that whoever wrote `raw` knows a key."""
    return hmac.digest(derive(key, nonce, purpose), raw, "sha256")[:CONFIRMATION_SIZE]


@dataclass(slots=True)
class Wraps:
    """New keys, and for each the pad that hides it: what the receiver's key gives for this nonce only."""

    keys: list[bytes] = field(default_factory=list)
    pads: list[bytes] = field(default_factory=list)

    def join(self) -> bytes:
        """All of them, wrapped: one exclusive or, instead of thousands."""
        size = KEY_SIZE * len(self.pads)
        both = int.from_bytes(b"".join(self.keys), "big") ^ int.from_bytes(b"".join(self.pads), "big")
        return both.to_bytes(size, "big")


@dataclass(frozen=True, slots=True)
class Renewed:
    """What members need to follow; see LkhTreeChange."""

    nodes: bytes
    wrapped_keys: bytes


class KeyTree:
    """See the module. The names of places are their positions."""

    def __init__(self, degree: int, root: bytes) -> None:
        if not 2 <= degree <= MAX_DEGREE:
            raise ValueError(f"a key tree's degree is 2 to {MAX_DEGREE}, not {degree}")
        self.degree = degree
        self.heights = [bytearray(), bytearray(root)]

    @classmethod
    def load(cls, degree: int, heights: Sequence[bytes]) -> KeyTree:
        """From `heights` as they were; `ValueError` where they are no tree's."""
        tree = cls(degree, NO_KEY)
        tree.heights = [bytearray(level) for level in heights]
        sizes = [tree.count(height, tree.places) * KEY_SIZE for height in range(len(heights))]
        if len(heights) < 2 or [len(level) for level in heights] != sizes or len(heights[-1]) != KEY_SIZE:
            raise ValueError("not a tree")
        return tree

    @property
    def places(self) -> int:
        """How many leaves there are, those without a member included."""
        return len(self.heights[0]) // KEY_SIZE

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
        while self.degree**self.height < places:
            self.heights.append(bytearray(grown(self.root)))
        while self.height > 1 and self.degree ** (self.height - 1) >= places:
            self.heights.pop()
        for height, level in enumerate(self.heights):
            size = self.count(height, places) * KEY_SIZE
            if size < len(level):
                del level[size:]
            else:
                level += bytes(size - len(level))

    def count(self, height: int, places: int) -> int:
        """How many nodes there are at a height above so many places."""
        return max(-(-places // self.degree**height), int(height == self.height))

    def renew(self, broken: Iterable[int], joined: Iterable[int], nonce: bytes, *, replace: bool) -> Renewed:
        """New keys on the paths of these places: `broken` are those that somebody left or was moved to, `joined`
        those of newcomers, who are told their paths' new keys apart from this.

        Without `replace` nobody left, and only nodes get a key that had none.
        """
        fresh = set(joined)  # children below which there are newcomers only
        changed = {0: (set(broken), set(joined))}
        children: dict[int, int] = {}  # of a node: those that are in the message, as bits
        parts: list[tuple[bytes, Wraps]] = []
        broken_nodes, joined_nodes = changed[0]
        for height in range(1, len(self.heights)):
            broken_nodes = {child // self.degree for child in broken_nodes}
            joined_nodes = {child // self.degree for child in joined_nodes}
            if height == self.height and replace:
                joined_nodes.add(0)
            level = _Level(self, height, fresh, children, nonce)
            level.renew(broken_nodes, joined_nodes, replace=replace)
            fresh, children = level.fresh_nodes, level.parents
            parts.append((bytes(level.nodes), level.wraps))
        parts.reverse()
        wraps = Wraps()
        for _, each in parts:
            wraps.keys += each.keys
            wraps.pads += each.pads
        return Renewed(b"".join(nodes for nodes, _ in parts), wraps.join())


class _Level:
    """One height while its keys change."""

    def __init__(self, tree: KeyTree, height: int, fresh: set[int], children: dict[int, int], nonce: bytes) -> None:
        self._degree = tree.degree
        self._below, self._keys = tree.heights[height - 1], tree.heights[height]
        self._fresh = fresh
        self._children = children
        self._nonce = nonce
        self.nodes = bytearray()
        self.wraps = Wraps()
        self.fresh_nodes: set[int] = set()
        self.parents: dict[int, int] = {}

    def renew(self, broken: set[int], joined: set[int], *, replace: bool) -> None:
        """All that are marked."""
        keys, count = self._keys, len(self._keys) // KEY_SIZE
        for node in sorted(broken | joined):
            if node >= count:
                break
            at = node * KEY_SIZE
            old, new = self._living(node)
            if not old:
                keys[at : at + KEY_SIZE] = derive(new[0], self._nonce, PARENT) if new else NO_KEY
                if new:
                    self.fresh_nodes.add(node)
            elif node in broken:
                keys[at : at + KEY_SIZE] = self._rebuild(node, old)
            elif replace:
                keys[at : at + KEY_SIZE] = derive(bytes(keys[at : at + KEY_SIZE]), self._nonce, AGED)
                self._list(node, 0)

    def _living(self, node: int) -> tuple[list[tuple[int, bytes]], list[bytes]]:
        """Keys of children below which members stay, with the child's bit; and of those with newcomers only."""
        first = node * self._degree
        raw = bytes(self._below[first * KEY_SIZE : (first + self._degree) * KEY_SIZE])
        old, new = [], []
        for digit in range(len(raw) // KEY_SIZE):
            key = raw[digit * KEY_SIZE : (digit + 1) * KEY_SIZE]
            if key == NO_KEY:
                continue
            if first + digit in self._fresh:
                new.append(key)
            else:
                old.append((1 << digit, key))
        return old, new

    def _rebuild(self, node: int, old: Sequence[tuple[int, bytes]]) -> bytes:
        """A new key from the first child's, wrapped for the others."""
        key = derive(old[0][1], self._nonce, PARENT)
        mask = 0
        for bit, _ in old:
            mask |= bit
        self.wraps.pads += [derive(child, self._nonce, WRAP) for _, child in old[1:]]
        self.wraps.keys += [key] * (len(old) - 1)
        self._list(node, mask)
        return key

    def _list(self, node: int, mask: int) -> None:
        self.nodes.append(self._children.get(node, 0))
        self.nodes.append(mask)
        parent = node // self._degree
        self.parents[parent] = self.parents.get(parent, 0) | 1 << node % self._degree
