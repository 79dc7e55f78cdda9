"""Binary hash trees over up to 64 leaves (Merkle; Wong and Lam, "Digital Signatures for Flows and Multicasts", 1998).

Where a level has an odd number of nodes, the last one goes up unchanged. Leaves and nodes are hashed differently, so
that no node can pass as a leaf; who signs a root signs the number of leaves with it, so that each position has one way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import NamedTuple

MOST_LEAVES = 64
DIGEST_SIZE = 32
LEAF, _NODE = b"\x00", b"\x01"


class Step(NamedTuple):
    """From a node to its parent."""

    level: int
    place: int  # of the node in its level
    sibling: int  # 0 or 1 siblings are hashed with it
    on_the_right: bool  # the node itself is


@cache
def way_up(place: int, leaves: int) -> tuple[Step, ...]:
    """From a leaf to below the root."""
    steps, level = [], 0
    while leaves > 1:
        steps.append(Step(level, place, int(place ^ 1 < leaves), bool(place & 1)))
        place, leaves, level = place >> 1, leaves + 1 >> 1, level + 1
    return tuple(steps)


@cache
def siblings_of(place: int, leaves: int) -> int:
    """How many digests prove a leaf."""
    return sum(step.sibling for step in way_up(place, leaves))


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
    """For each leaf its siblings, from below upwards."""
    leaves = len(levels[0])
    return [
        b"".join([levels[step.level][step.place ^ 1] for step in way_up(place, leaves) if step.sibling])
        for place in range(leaves)
    ]


class KnownTree:
    """What is proved of one tree whose root is."""

    __slots__ = ("_known", "leaves")

    def __init__(self, leaves: int) -> None:
        self.leaves = leaves
        self._known: dict[tuple[int, int], bytes] = {}

    @classmethod
    def depth_of(cls, leaves: int) -> int:
        """Levels above the leaves."""
        return (leaves - 1).bit_length()

    def prove_root(self, root: bytes) -> None:
        """The signature over it is good."""
        self._known[self.depth_of(self.leaves), 0] = root

    def proves(self, place: int, leaf: bytes, siblings: bytes) -> bool:
        """Whether this leaf is in the tree, by its siblings up to where something is known; what they show is known
        from then on, so that the other leaves of a block cost two hashes each."""
        known = self._known
        if (found := known.get((0, place))) is not None:
            return found == leaf
        node, start, shown = leaf, 0, [(0, place, leaf)]
        for level, at, sibling, on_the_right in way_up(place, self.leaves):
            if sibling:
                other = siblings[start : start + DIGEST_SIZE]
                start += DIGEST_SIZE
                shown.append((level, at ^ 1, other))
                node = sha256(_NODE + other + node if on_the_right else _NODE + node + other).digest()
            parent = level + 1, at >> 1
            if (found := known.get(parent)) is not None:
                if found != node:
                    return False
                break
            shown.append((*parent, node))
        for level, at, digest in shown:
            known[level, at] = digest
        return True


def root_of(place: int, leaves: int, leaf: bytes, siblings: bytes) -> bytes:
    """The root that a leaf and its siblings lead to."""
    node, at = leaf, 0
    for _, _, sibling, on_the_right in way_up(place, leaves):
        if sibling:
            other = siblings[at : at + DIGEST_SIZE]
            at += DIGEST_SIZE
            node = hash_pair(other, node) if on_the_right else hash_pair(node, other)
    return node
