"""LKH, a logical key hierarchy: RFC 2627, section 5.4; Wong, Gouda, Lam, "Secure Group Communications Using Key Graphs"

Each member has the keys from its own leaf up to the root of a key tree (`mcsa.gkm.key_tree`); the group key derives
from the root's. A leaf key is the Authorizer's draw, known to it and that member only. Whatever comes and goes in a
batch is one rekey, and new keys in it are only ever derived from, or wrapped under, keys that nobody has who left:

- Nodes above a leaf that somebody left get a new key from the key of a child below which somebody stays (its new key
  where that changed too), wrapped for the other children: (d - 1) wraps a height instead of d.
- Nodes above newcomers only age: the new key is a one-way function of the old one, which newcomers never see. A join
  costs no wraps, nor does replacing a key because of its age.
- A group that newcomers enter without a new key may get a higher tree meanwhile. The new root's key is a one-way
  function of the old root's, so that members who were told nothing follow with the next rekey.

Newcomers take the places of those that left. Where that leaves more than every second place free, the last members move
to free places near the front, their old paths' keys change as if they had left, and the tree loses a height: never is
it higher than log_d(n) + 2.

A rekey may carry new tree keys and the way to the new group key in one message (design, section 6), because who left
finds no key in it that it has: none of its nodes' old keys opens or derives anything.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from mcsa.errors import Rejected
from mcsa.gkm import key_tree
from mcsa.gkm.interface import Change, Excluded, Promises
from mcsa.gkm.key_tree import NO_KEY, NONCE_SIZE, KeyTree, confirm, derive, grown
from mcsa.gkm.places import TAG_SIZE, Places
from mcsa.keys import KEY_SIZE, GroupKey, Random
from mcsa.v1.gkm_lkh_pb2 import (
    LkhMembershipChange,
    LkhRecord,
    LkhRekey,
    LkhSnapshot,
    LkhTreeChange,
    LkhWelcome,
)

DEGREE = 4  # the best where a new key is wrapped for each child (Wong, Gouda and Lam)
SPARSE = 2  # places a member, at most
MAX_PLACES = 2**32


class KeyServer:
    """The Authorizer's half."""

    def __init__(self, random: Random, tree: KeyTree, places: Places, group_key: GroupKey) -> None:
        self._random = random
        self.tree = tree  # for those that measure it
        self._places = places
        self._key = group_key
        self._generation = 1
        self._history = bytes(key_tree.CONFIRMATION_SIZE)  # the last record's confirmation

    @classmethod
    def restore(cls, snapshot: bytes, random: Random) -> KeyServer:
        """See `interface.Scheme.restore`."""
        try:
            message = LkhSnapshot.FromString(snapshot)
            places = Places.load(message.index_key, message.tags, message.slots)
            tree = KeyTree.load(message.degree, places.size, message.heights)
            server = cls(random, tree, places, GroupKey(message.group_key))
        except (DecodeError, ValueError):
            raise Rejected("record", "malformed") from None
        if len(message.history) != key_tree.CONFIRMATION_SIZE:
            raise Rejected("record", "malformed")
        server._generation, server._history = message.generation, message.history
        return server

    @property
    def key(self) -> GroupKey:
        """See `interface.Authority.key`."""
        return self._key

    def check_contribution(self, contribution: bytes) -> None:
        """Nothing is asked of a member: its leaf key travels in the welcome."""
        if contribution:
            raise Rejected("contribution", "not empty")

    def change(self, joins: Mapping[str, bytes], leaves: Sequence[str], *, replace_key: bool) -> Change:
        """See `interface.Authority.change`."""
        tags = [self._places.tag(name) for name in joins]
        left = self._places_of([*(self._places.tag(name) for name in leaves), *tags])
        staying = self._places.members - len(left)
        turnover = LkhMembershipChange(
            nonce=self._random(NONCE_SIZE),
            replace_key=replace_key or bool(left),
            left=left,
            moves=self._vacate(left, staying + len(joins)),
            leaf_keys=self._random(KEY_SIZE * len(joins)),
            empty_root=b"" if staying or joins else self._random(KEY_SIZE),
        )
        turnover.joined.extend(self._settle(tag) for tag in tags)
        turnover.tags = b"".join(tags)
        raw = turnover.SerializeToString()
        record = LkhRecord(membership_change=raw, confirmation=self._confirm(raw))
        rekey, wraps = self._carry_out(turnover, record.confirmation)
        welcomes = {name: self._welcome(place) for name, place in zip(joins, turnover.joined)}
        return Change(rekey if staying else b"", welcomes, record.SerializeToString(), wraps)

    def apply(self, record: bytes) -> None:
        """See `interface.Authority.apply`; what another state's instance made is rejected too."""
        try:
            message = LkhRecord.FromString(record)
            turnover = LkhMembershipChange.FromString(message.membership_change)
        except DecodeError:
            raise Rejected("record", "malformed") from None
        if not hmac.compare_digest(message.confirmation, self._confirm(message.membership_change)):
            raise Rejected("record", "not the next one of this group")
        for place in turnover.left:
            self._places.remove(place)
        for place, target in _pairs(turnover.moves):
            self._places.move(place, target)
        self._places.trim()
        for place, tag in zip(turnover.joined, _cut(turnover.tags, TAG_SIZE)):
            self._places.put(tag, place)
        self._carry_out(turnover, message.confirmation)

    def snapshot(self) -> bytes:
        """See `interface.Authority.snapshot`."""
        index_key, tags, slots = self._places.dump()
        message = LkhSnapshot(
            degree=self.tree.degree,
            generation=self._generation,
            group_key=self._key.reveal(),
            history=self._history,
            heights=[bytes(level) for level in self.tree.heights],
            index_key=index_key,
            tags=tags,
            slots=slots,
        )
        return message.SerializeToString()

    # ---- who has which place

    def _places_of(self, tags: Iterable[bytes]) -> list[int]:
        found = map(self._places.find, tags)
        return list(dict.fromkeys(place for place in found if place is not None))

    def _vacate(self, left: Sequence[int], members: int) -> list[int]:
        """Frees places, and moves the last members to the front where too many are free; returns the moves."""
        for place in left:
            self._places.remove(place)
        self._places.trim()
        moves: list[int] = []
        while self._places.size > SPARSE * members:
            place, target = self._places.size - 1, self._places.next_free(SPARSE * members)
            self._places.move(place, target)
            self._places.trim()
            moves += (place, target)
        return moves

    def _settle(self, tag: bytes) -> int:
        place = self._places.next_free(MAX_PLACES)
        self._places.put(tag, place)
        return place

    # ---- keys

    def _confirm(self, membership_change: bytes) -> bytes:
        return confirm(self.tree.root, self._history, membership_change)

    def _carry_out(self, turnover: LkhMembershipChange, confirmation: bytes) -> tuple[bytes, int]:
        """What follows for the keys, once the places are as they will be; returns the rekey and its wraps."""
        tree, moves = self.tree, turnover.moves
        tree.resize(max(tree.places, self._places.size))
        for place in turnover.left:
            tree.set_leaf(place, NO_KEY)
        for place, target in _pairs(moves):
            tree.set_leaf(target, tree.leaf(place))
            tree.set_leaf(place, NO_KEY)
        for place, key in zip(turnover.joined, _cut(turnover.leaf_keys, KEY_SIZE)):
            tree.set_leaf(place, key)
        tree.resize(self._places.size)
        renewed = tree.renew([*turnover.left, *moves], turnover.joined, turnover.nonce, replace=turnover.replace_key)
        if turnover.empty_root:
            tree.root = turnover.empty_root
        self._history = confirmation
        if not turnover.replace_key:
            return b"", 0
        self._generation += 1
        self._key = GroupKey(derive(tree.root, turnover.nonce, key_tree.GROUP))
        change = LkhTreeChange(
            generation=self._generation,
            nonce=turnover.nonce,
            height=tree.height,
            moves=moves,
            nodes=renewed.nodes,
            wrapped_keys=renewed.wrapped_keys,
        )
        raw = change.SerializeToString()
        rekey = LkhRekey(tree_change=raw, confirmation=confirm(tree.root, turnover.nonce, raw))
        return rekey.SerializeToString(), len(renewed.wrapped_keys) // KEY_SIZE

    def _welcome(self, place: int) -> bytes:
        welcome = LkhWelcome(
            degree=self.tree.degree,
            place=place,
            generation=self._generation,
            path=self.tree.path(place),
            group_key=self._key.reveal(),
        )
        return welcome.SerializeToString()


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
        """See `interface.Member.process`. A member that missed rekeys takes this one where it still leads somewhere."""
        try:
            message = LkhRekey.FromString(rekey)
            change = LkhTreeChange.FromString(message.tree_change)
        except DecodeError:
            raise Rejected("rekey", "malformed") from None
        if change.generation <= self._generation:
            raise Rejected("rekey", "stale")
        self._check_shape(change)
        place = self._new_place(change)
        path = self._new_path(change, place)
        expected = confirm(path[-1], change.nonce, message.tree_change)
        if not hmac.compare_digest(message.confirmation, expected):
            if change.generation > self._generation + 1:
                raise Excluded
            raise Rejected("rekey", "not confirmed")
        self._place, self._path, self._generation = place, path, change.generation
        self._key = GroupKey(derive(path[-1], change.nonce, key_tree.GROUP))
        return self._key

    def _check_shape(self, change: LkhTreeChange) -> None:
        if len(change.nonce) != NONCE_SIZE or len(change.moves) % 2 or len(change.wrapped_keys) % KEY_SIZE:
            raise Rejected("rekey", "sizes")
        if not 1 <= change.height <= 32 or self._degree ** (change.height - 1) > MAX_PLACES:
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
            path[step.height] = step.new_key(path, change)
        return path


@dataclass(frozen=True, slots=True)
class _Step:
    """One node of a member's path, as the change speaks of it."""

    height: int
    digit: int  # which child of it is on the path
    children: int  # bits: from whose keys the new key comes
    first_wrap: int  # position of the node's first wrapped key

    def new_key(self, path: Sequence[bytes], change: LkhTreeChange) -> bytes:
        """The node's new key; the path holds what is right below it."""
        if not self.children:
            return derive(path[self.height], change.nonce, key_tree.AGED)
        if not self.children >> self.digit & 1:
            raise Excluded
        below = path[self.height - 1]
        rank = (self.children & (1 << self.digit) - 1).bit_count()
        if rank == 0:
            return derive(below, change.nonce, key_tree.PARENT)
        start = (self.first_wrap + rank - 1) * KEY_SIZE
        pad = derive(below, change.nonce, key_tree.WRAP)
        return bytes(a ^ b for a, b in zip(change.wrapped_keys[start : start + KEY_SIZE], pad))


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
        end, wraps_end = start, wraps_end - sum(children.translate(key_tree.WRAP_COUNTS))
        if position is not None:
            digit = place // degree ** (height - 1) % degree
            first_wrap = wraps_end + sum(children[:position].translate(key_tree.WRAP_COUNTS))
            steps.append(_Step(height, digit, children[position], first_wrap))
            marked, before = nodes[position], sum(nodes[:position].translate(key_tree.BIT_COUNTS))
            position = before + (marked & (1 << digit) - 1).bit_count() if marked >> digit & 1 else None
        count = sum(nodes.translate(key_tree.BIT_COUNTS))
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
        path = _cut(message.path, KEY_SIZE)
        height = len(path) - 1
        if len(message.path) % KEY_SIZE or not 1 <= height <= 32 or not 2 <= message.degree <= key_tree.MAX_DEGREE:
            raise Rejected("welcome", "sizes")
        if message.place >= message.degree**height:
            raise Rejected("welcome", "a place outside the tree")
        return TreeMember(message.degree, message.place, message.generation, path, group_key)


def _pairs(moves: Sequence[int]) -> Iterable[tuple[int, int]]:
    return zip(moves[0::2], moves[1::2])


def _cut(raw: bytes, size: int) -> list[bytes]:
    return [raw[start : start + size] for start in range(0, len(raw), size)]


class Lkh:
    """The plug-in."""

    name = "lkh"
    title = "LKH, a logical key hierarchy, RFC 2627 section 5.4"
    promises = Promises(
        forward_secrecy=True,
        backward_secrecy=True,
        trusted_with_keys="the Authorizer",
        join_cost="1 sealed answer, no wraps",
        leave_cost="(d - 1) log_d(n) wraps in one multicast, d the tree's degree",
    )

    distributors = "none"
    members_at_most: int | None = None  # a leave's rekey grows with the logarithm; who makes a batch bounds it
    subgroups = False

    def __init__(self, degree: int = DEGREE) -> None:
        self._degree = degree

    def create(self, random: Random) -> KeyServer:
        """A new group."""
        tree = KeyTree(self._degree, random(KEY_SIZE))
        return KeyServer(random, tree, Places(random(KEY_SIZE)), GroupKey.draw(random))

    def restore(self, snapshot: bytes, random: Random) -> KeyServer:
        """A group as it was, with the degree that it had."""
        return KeyServer.restore(snapshot, random)

    def begin(self, random: Random) -> Newcomer:
        """A new member."""
        return Newcomer()


SCHEME = Lkh()
