"""Binary hash trees over up to 64 leaves (Merkle; Wong and Lam, "Digital Signatures for Flows and Multicasts", 1998).

Where a level has an odd number of nodes, the last one goes up unchanged. Leaves and nodes are hashed differently, so
that no node can pass as a leaf; who signs a root signs the number of leaves with it, so that each position has one way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha256

MOST_LEAVES = 64
DIGEST_SIZE = 32
LEAF, _NODE = b"\x00", b"\x01"


@cache
def way_up(place: int, leaves: int) -> tuple[bool, ...]:
    """From a leaf to below the root, for each level: whether the node there has a sibling to be hashed with."""
    way = []
    while leaves > 1:
        way.append(place ^ 1 < leaves)
        place, leaves = place >> 1, leaves + 1 >> 1
    return tuple(way)


@cache
def siblings_of(place: int, leaves: int) -> int:
    """How many digests prove a leaf."""
    return sum(way_up(place, leaves))


def depth_of(leaves: int) -> int:
    """Levels above the leaves."""
    return (leaves - 1).bit_length()


def hash_pair(left: bytes, right: bytes) -> bytes:
    """A parent of two."""
    return sha256(_NODE + left + right).digest()


def build(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """All levels, the leaves first, the root last."""
    levels = [list(leaves)]
    while len(level := levels[-1]) > 1:
        above = [sha256(_NODE + left + right).digest() for left, right in zip(level[::2], level[1::2])]
        levels.append(above + level[len(above) * 2 :])
    return levels


def proofs(levels: Sequence[Sequence[bytes]]) -> list[bytes]:
    """For each leaf its siblings, from below upwards: a node's own sibling, and then what proves its parent."""
    found = [b""]
    for level in levels[-2::-1]:
        last = len(level) - 1
        above = found
        found = [level[place ^ 1] + above[place >> 1] for place in range(last + last % 2)]
        if not last % 2:  # without a sibling
            found.append(above[last >> 1])
    return found


def root_of(place: int, leaves: int, leaf: bytes, siblings: bytes) -> bytes:
    """The root that a leaf and its siblings lead to."""
    node, at = leaf, 0
    for has_sibling in way_up(place, leaves):
        if has_sibling:
            other = siblings[at : at + DIGEST_SIZE]
            at += DIGEST_SIZE
            node = hash_pair(other, node) if place & 1 else hash_pair(node, other)
        place >>= 1
    return node


class KnownTree:
    """What is proved of one tree whose root is.

    Nodes are numbered as in a heap: 1 is the root, and below n are 2n and 2n + 1.
    """

    __slots__ = ("_first_leaf", "_known", "leaves")

    def __init__(self, leaves: int, root: bytes) -> None:
        """The signature over the root is good."""
        self.leaves = leaves
        self._first_leaf = 1 << depth_of(leaves)
        self._known = {1: root}

    def proves(self, place: int, leaf: bytes, siblings: bytes, at: int = 0) -> bool:
        """Whether this leaf is in the tree, by its siblings (which begin at that byte) up to where something is known;
        what they show is known from then on, so that the other leaves of a block cost two hashes each."""
        known, number = self._known, self._first_leaf + place
        if (found := known.get(number)) is not None:
            return found == leaf
        node, shown = leaf, {number: leaf}
        for has_sibling in way_up(place, self.leaves):
            if has_sibling:
                shown[number ^ 1] = other = siblings[at : at + DIGEST_SIZE]
                at += DIGEST_SIZE
                node = sha256(_NODE + other + node if number & 1 else _NODE + node + other).digest()
            number >>= 1
            if (found := known.get(number)) is not None:
                if found != node:
                    return False
                break
            shown[number] = node
        known.update(shown)
        return True
