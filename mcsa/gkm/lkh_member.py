"""The member's half of `lkh`: the keys from its leaf to the root, and how it follows the tree's changes."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from mcsa.errors import Rejected
from mcsa.gkm.interface import Excluded
from mcsa.gkm.key_derivation import AGED, CONFIRMATION_SIZE, GROUP, NONCE_SIZE, PARENT, WRAP, confirm, grown, spend
from mcsa.gkm.key_tree import MAX_DEGREE, NO_KEY
from mcsa.keys import KEY_SIZE, GroupKey
from mcsa.v1.gkm_lkh_pb2 import LkhTreeChange, LkhWelcome

MAX_HEIGHT = 32  # of the root above the leaves
_BIT_COUNTS = bytes(byte.bit_count() for byte in range(256))
_WRAP_COUNTS = bytes(max(byte.bit_count() - 1, 0) for byte in range(256))  # the first child's is no wrap


class TreeMember:
    """A member's half: the keys from its leaf to the root. That at height h is of node `place // degree**h`."""

    def __init__(self, degree: int, place: int, generation: int, path: list[bytes], group_key: GroupKey) -> None:
        self._degree = degree
        self._place = place
        self._generation = generation
        self._path = path
        self._key = group_key

    @property
    def key(self) -> GroupKey:
        """See `interface.Member.key`."""
        return self._key

    @property
    def keys_held(self) -> int:
        """Those of the path, and the group key."""
        return len(self._path) + 1

    def process(self, rekey: bytes) -> GroupKey:
        """See `interface.Member.process`. `Excluded` too where it missed a rekey."""
        raw, confirmation = rekey[:-CONFIRMATION_SIZE], rekey[-CONFIRMATION_SIZE:]
        try:
            change = LkhTreeChange.FromString(raw)
        except DecodeError:
            raise Rejected("rekey", "malformed") from None
        self._check_shape(change)
        if change.generation > self._generation + 1:
            raise Excluded  # keys that it has were spent meanwhile
        place = self._new_place(change)
        path = self._new_path(change, place)
        key, path[-1] = spend(path[-1], change.nonce, GROUP)
        if not hmac.compare_digest(confirmation, confirm(path[-1], change.nonce, raw)):
            raise Rejected("rekey", "not confirmed")
        self._place, self._path, self._generation, self._key = place, path, change.generation, GroupKey(key)
        return self._key

    def _check_shape(self, change: LkhTreeChange) -> None:
        if change.generation <= self._generation:
            raise Rejected("rekey", "stale")
        if len(change.nonce) != NONCE_SIZE or len(change.moves) % 2 or len(change.wrapped_keys) % KEY_SIZE:
            raise Rejected("rekey", "sizes")
        if not 1 <= change.height <= MAX_HEIGHT:
            raise Rejected("rekey", "height")

    def _new_place(self, change: LkhTreeChange) -> int:
        """Where this member is after the moves; `Excluded` where its place is gone, or another's."""
        sources, targets = change.moves[0::2], change.moves[1::2]
        if self._place in sources:
            place = int(targets[sources.index(self._place)])
        elif self._place in targets:
            raise Excluded
        else:
            place = self._place
        if place >= self._degree**change.height:
            raise Excluded
        return place

    def _new_path(self, change: LkhTreeChange, place: int) -> list[bytes]:
        path = list(self._path)
        while len(path) <= change.height:
            path.append(grown(path[-1]))
        del path[change.height + 1 :]
        steps = _steps(change, place, self._degree)
        if place != self._place:
            path[1:] = [NO_KEY] * change.height  # the new path's, all of which are in the change
            if len(steps) < change.height or any(step.children == 0 for step in steps):
                raise Rejected("rekey", "a move to nowhere")
        for step in reversed(steps):
            below, key = path[step.height - 1], path[step.height]
            path[step.height - 1], path[step.height] = step.follow(below, key, change)
        return path


@dataclass(frozen=True, slots=True)
class _Step:
    """One node of a member's path, as the change speaks of it."""

    height: int
    digit: int  # which child of it is on the path
    children: int  # bits: from whose keys the new key comes
    first_wrap: int  # position of the node's first wrapped key

    def follow(self, below: bytes, key: bytes, change: LkhTreeChange) -> tuple[bytes, bytes]:
        """What becomes of this node's key and of the one right below it on the path; that one first."""
        if not self.children:
            return below, spend(key, change.nonce, AGED)[1]
        if not self.children >> self.digit & 1:
            raise Excluded
        rank = (self.children & (1 << self.digit) - 1).bit_count()
        given, below = spend(below, change.nonce, WRAP if rank else PARENT)
        if rank:
            start = (self.first_wrap + rank - 1) * KEY_SIZE
            given = bytes(a ^ b for a, b in zip(change.wrapped_keys[start : start + KEY_SIZE], given))
        return below, given


def _steps(change: LkhTreeChange, place: int, degree: int) -> list[_Step]:
    """The nodes on a place's path that change, from the root down; `Rejected` where the whole isn't one tree."""
    steps: list[_Step] = []
    position: int | None = 0
    end, count, wraps_end = len(change.nodes), 1, len(change.wrapped_keys) // KEY_SIZE
    for height in range(change.height, 0, -1):
        start = end - 2 * count
        if start < 0:
            raise Rejected("rekey", "nodes are missing")
        nodes, children = change.nodes[start:end:2], change.nodes[start + 1 : end : 2]
        end, wraps_end = start, wraps_end - sum(children.translate(_WRAP_COUNTS))
        if position is not None:
            digit = place // degree ** (height - 1) % degree
            first_wrap = wraps_end + sum(children[:position].translate(_WRAP_COUNTS))
            steps.append(_Step(height, digit, children[position], first_wrap))
            marked, before = nodes[position], sum(nodes[:position].translate(_BIT_COUNTS))
            position = before + (marked & (1 << digit) - 1).bit_count() if marked >> digit & 1 else None
        count = sum(nodes.translate(_BIT_COUNTS))
    if count or end or wraps_end:
        raise Rejected("rekey", "sizes")
    return steps


class Newcomer:
    """A member's half before it is one."""

    @property
    def contribution(self) -> bytes:
        """Nothing."""
        return b""

    def finish(self, welcome: bytes) -> TreeMember:
        """See `interface.Joining.finish`."""
        try:
            message = LkhWelcome.FromString(welcome)
            group_key = GroupKey(message.group_key)
        except (DecodeError, ValueError):
            raise Rejected("welcome", "malformed") from None
        path = [message.path[start : start + KEY_SIZE] for start in range(0, len(message.path), KEY_SIZE)]
        height = len(path) - 1
        if len(message.path) % KEY_SIZE or not 1 <= height <= MAX_HEIGHT or not 2 <= message.degree <= MAX_DEGREE:
            raise Rejected("welcome", "sizes")
        if message.place >= message.degree**height:
            raise Rejected("welcome", "a place outside the tree")
        return TreeMember(message.degree, message.place, message.generation, path, group_key)
