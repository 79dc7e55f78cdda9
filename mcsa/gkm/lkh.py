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

Why that is secure. Assumed is that BLAKE2b with a secret key of 256 bits in front is a pseudorandom function of the
rest (`mcsa.gkm.key_derivation`), and in its own keyed mode a message authentication code.

- Who left, alone or with all others that did: no old key of a node above it is an input of the rekey, so that all it
  sees are outputs of the function under keys that it lacks. A rekey may therefore carry new tree keys and the way to
  the new group key in one message, as RFC 6407 and 9838 otherwise forbid.
- Who comes: each key that leads to a new one is used once and replaced by its successor, the other half of the same
  output. What a newcomer is given was never used before, also where it joins without a new key; it opens no earlier
  rekey, not even one that somebody kept who left since. The group key is as far from the root's.
- Pads never repeat: a wrap is the exclusive or of a new key with an output under the child's key, the nonce and a label
  of its own; a key is below one node only, and gives one pad before it is replaced. Two instances that go on from the
  same state have different nonces, since the nonce is a hash of the change, its 16 random bytes and all changes
  before: that holds even where their randomness is the same.
- Wraps have no tag each. The one at the end, under the new root's key, shows a member that it came to the same keys as
  the Authorizer, and by which nodes. Who has that key could make another: who may send rekeys is for the signature of
  the update (`mcsa.updates`) to say.

AES key wrap (RFC 5649) in place of the exclusive or would take 1.6 µs a wrap, three to four times as much.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.message import DecodeError

from mcsa.errors import Rejected
from mcsa.gkm.interface import Change, Promises
from mcsa.gkm.key_derivation import CONFIRMATION_SIZE, chain, confirm
from mcsa.gkm.key_tree import NO_KEY, KeyTree
from mcsa.gkm.lkh_member import Newcomer
from mcsa.gkm.places import TAG_SIZE, Places
from mcsa.keys import KEY_SIZE, GroupKey, Random
from mcsa.v1.gkm_lkh_pb2 import LkhMembershipChange, LkhSnapshot, LkhTreeChange, LkhWelcome

DEGREE = 4  # the best where a new key is wrapped for each child (Wong, Gouda and Lam)
SPARSE = 2  # places a member, at most
MAX_PLACES = 2**32  # what the messages' 32 bits hold
RANDOM_SIZE = 16


class KeyServer:
    """The Authorizer's half."""

    def __init__(self, random: Random, tree: KeyTree, places: Places, group_key: GroupKey) -> None:
        self._random = random
        self.tree = tree  # for those that measure it
        self._places = places
        self._key = group_key
        self._generation = 1
        self._history = bytes(CONFIRMATION_SIZE)  # the last record's confirmation

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
        if len(message.history) != CONFIRMATION_SIZE:
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
        left = self._places_of([*map(self._places.tag, leaves), *tags])
        staying = self._places.members - len(left)
        turnover = LkhMembershipChange(
            random=self._random(RANDOM_SIZE),
            replace_key=replace_key or bool(left),
            left=left,
            moves=self._vacate(left, staying + len(joins)),
            joined=[self._settle(tag) for tag in tags],
            tags=b"".join(tags),
            leaf_keys=self._random(KEY_SIZE * len(joins)) if joins else b"",
            empty_root=b"" if staying or joins else self._random(KEY_SIZE),
        )
        raw = turnover.SerializeToString()
        confirmation, nonce = chain(self.tree.root, self._history, raw)
        rekey, wraps = self._carry_out(turnover, confirmation, nonce)
        welcomes = {name: self._welcome(place) for name, place in zip(joins, turnover.joined)}
        return Change(rekey if staying else b"", welcomes, raw + confirmation, wraps)

    def apply(self, record: bytes) -> None:
        """See `interface.Authority.apply`; what another state's instance made is rejected too."""
        raw, confirmation = record[:-CONFIRMATION_SIZE], record[-CONFIRMATION_SIZE:]
        expected, nonce = chain(self.tree.root, self._history, raw)
        if not hmac.compare_digest(confirmation, expected):
            raise Rejected("record", "not the next one of this group")
        turnover = LkhMembershipChange.FromString(raw)
        for place in turnover.left:
            self._places.remove(place)
        for place, target in _pairs(turnover.moves):
            self._places.move(place, target)
        self._places.trim()
        for place, tag in zip(turnover.joined, _cut(turnover.tags, TAG_SIZE)):
            self._places.put(tag, place)
        self._carry_out(turnover, confirmation, nonce)

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

    def _carry_out(self, turnover: LkhMembershipChange, confirmation: bytes, nonce: bytes) -> tuple[bytes, int]:
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
        renewed = tree.renew([*turnover.left, *moves], turnover.joined, nonce, replace=turnover.replace_key)
        if turnover.empty_root:
            tree.root = turnover.empty_root
        self._history = confirmation
        if not turnover.replace_key:
            return b"", 0
        self._generation += 1
        self._key = GroupKey(tree.draw_group_key(nonce))
        change = LkhTreeChange(
            generation=self._generation,
            nonce=nonce,
            height=tree.height,
            moves=moves,
            nodes=renewed.nodes,
            wrapped_keys=renewed.wrapped_keys,
        )
        raw = change.SerializeToString()
        return raw + confirm(tree.root, nonce, raw), len(renewed.wrapped_keys) // KEY_SIZE

    def _welcome(self, place: int) -> bytes:
        welcome = LkhWelcome(
            degree=self.tree.degree,
            place=place,
            generation=self._generation,
            path=self.tree.path(place),
            group_key=self._key.reveal(),
        )
        return welcome.SerializeToString()


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
