"""What is particular to `lkh`: the tree's shape and costs, and who can follow which change."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsa.errors import Rejected
from mcsa.gkm import Excluded
from mcsa.gkm.key_tree import AGED, GROUP, NO_KEY, PARENT, WRAP, KeyTree, derive, grown
from mcsa.gkm.lkh import KeyServer, Lkh, TreeMember
from mcsa.gkm.places import Places
from mcsa.keys import KEY_SIZE, GroupKey
from mcsa.v1.gkm_lkh_pb2 import LkhRecord, LkhRekey, LkhSnapshot, LkhTreeChange, LkhWelcome
from tests.gkm.test_conformance import Crowd
from tests.world import seeded

DEGREES = pytest.mark.parametrize("degree", [2, 3, 4, 8])


def server_of(crowd: Crowd) -> KeyServer:
    assert isinstance(crowd.authority, KeyServer)
    return crowd.authority


def member_of(crowd: Crowd, name: str) -> TreeMember:
    member = crowd.present[name]
    assert isinstance(member, TreeMember)
    return member


def crowd_of(size: int, degree: int = 4, seed: int = 1) -> Crowd:
    crowd = Crowd(Lkh(degree), seed)
    crowd.change([f"m{number}" for number in range(size)])
    return crowd


def server_with(size: int, degree: int = 4) -> KeyServer:
    server = Lkh(degree).create(seeded(1))
    server.change({f"m{number}": b"" for number in range(size)}, [], replace_key=False)
    return server


def all_agree(crowd: Crowd) -> bool:
    return {member.key for member in crowd.present.values()} <= {crowd.authority.key}


# ---- what the RFCs say


def test_the_example_of_eight_members():
    """RFC 9838, appendix A: a simple rekey changes no key of the tree but the root's, the exclusion of F two more."""
    crowd = Crowd(Lkh(degree=2))
    crowd.change(list("ABCDEFGH"))
    before = {name: list(member_of(crowd, name)._path) for name in "ABCDEFGH"}
    assert [len(path) for path in before.values()] == [4] * 8  # leaf, two nodes, root
    crowd.change()
    simple = {name: list(member_of(crowd, name)._path) for name in "ABCDEFGH"}
    assert all(simple[name][:3] == before[name][:3] for name in "ABCDEFGH")
    excluded = crowd.present["F"]
    rekey = crowd.change([], ["F"])
    after = {name: list(member_of(crowd, name)._path) for name in "ABCDEGH"}
    kept = {name: [a == b for a, b in zip(simple[name], after[name])] for name in after}
    for name in "ABCD":
        assert kept[name] == [True, True, True, False]
    for name in "GH":
        assert kept[name] == [True, True, False, False]
    assert kept["E"] == [True, False, False, False]
    assert after["E"][2] == after["G"][2] == after["H"][2]
    assert all_agree(crowd)
    with pytest.raises(Excluded):
        excluded.process(rekey)


@pytest.mark.parametrize(
    ("users", "degree", "keys", "transmissions"),
    [(8, 2, 4, 3), (9, 3, 3, 4), (16, 2, 5, 4), (2048, 2, 12, 11), (2187, 3, 8, 14), (4096, 4, 7, 18)],
)
def test_costs_are_those_of_the_table(users: int, degree: int, keys: int, transmissions: int):
    """RFC 2627, table 1: keys a user holds, and (k - 1)d; ours is one fewer, since a sibling's leaf key serves too."""
    scheme, server = Lkh(degree), server_with(users - 1, degree)
    welcome = server.change({"last": b""}, [], replace_key=True).welcomes["last"]
    assert scheme.begin(seeded(1)).finish(welcome).keys_held == keys + 1  # and the group key
    assert server.change({}, ["m3"], replace_key=True).wraps == transmissions - 1
    server.change({"m3": b""}, [], replace_key=True)
    assert server.change({"new": b""}, ["m5"], replace_key=True).wraps == transmissions - 1  # newcomers need none


@DEGREES
def test_joins_and_ageing_wrap_nothing(degree: int):
    crowd = crowd_of(20, degree)
    for joins in (["a"], ["b", "c", "d"], [f"n{number}" for number in range(50)], []):
        rekey = crowd.change(joins)
        assert not LkhTreeChange.FromString(LkhRekey.FromString(rekey).tree_change).wrapped_keys
        assert all_agree(crowd)


def test_a_leave_among_many_fits_into_a_datagram():
    server = server_with(4**8)
    change = server.change({}, ["m777"], replace_key=True)
    assert change.wraps == 23 and len(change.rekey) < 850


# ---- wraps


def subtrees_between(left: set[int], size: int, degree: int) -> int:
    """The fewest whole subtrees of a full tree that hold all leaves but these, counted from the root down."""

    def count(first: int, width: int) -> int:
        inside = [place for place in left if first <= place < first + width]
        if not inside:
            return 1
        return 0 if width == 1 else sum(count(first + k * width // degree, width // degree) for k in range(degree))

    return count(0, size)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([(2, 6), (3, 4), (4, 3), (8, 2)]), st.sets(st.integers(0, 10**6), min_size=1, max_size=20))
def test_a_batch_takes_the_fewest_wraps_there_are(shape: tuple[int, int], choice: set[int]):
    """Each wrap links two of the subtrees that nobody left; to link c of them takes c - 1."""
    degree, height = shape
    size = degree**height
    places = {number % size for number in choice}
    server = server_with(size, degree)
    change = server.change({}, [f"m{place}" for place in places], replace_key=True)
    assert change.wraps == subtrees_between(places, size, degree) - 1


# ---- the tree's shape


@settings(max_examples=40, deadline=None)
@given(
    degree=st.sampled_from([2, 3, 4, 8]),
    seed=st.integers(0, 2**32),
    steps=st.lists(st.tuples(st.integers(0, 40), st.floats(0, 1), st.booleans()), min_size=1, max_size=8),
)
def test_under_churn_the_tree_stays_low_and_all_follow(degree: int, seed: int, steps: list[tuple[int, float, bool]]):
    crowd, chance, count = Crowd(Lkh(degree), seed), random.Random(seed), 0
    for joining, leaving, replace in steps:
        leaves = [name for name in crowd.present if chance.random() < leaving]
        joins = [f"m{count + number}" for number in range(joining)]
        count += joining
        crowd.change(joins, leaves, replace_key=replace)
        tree, members = server_of(crowd).tree, len(crowd.present)
        assert all_agree(crowd)
        assert tree.places <= 2 * members
        assert tree.height <= max(math.log(max(members, 1), degree) + 2, 1)
        check_keys(crowd)


def check_keys(crowd: Crowd) -> None:
    """A node has a key where a member is below it, which is the one that the member has; zeros elsewhere."""
    tree = server_of(crowd).tree
    expected: dict[tuple[int, int], bytes] = {}
    for name in crowd.present:
        member = member_of(crowd, name)
        path = list(member._path)
        while len(path) <= tree.height:
            path.append(grown(path[-1]))
        for height, key in enumerate(path):
            node = height, member._place // tree.degree**height
            assert expected.setdefault(node, key) == key != NO_KEY
    if crowd.present:
        assert expected == {
            (height, at // KEY_SIZE): bytes(level[at : at + KEY_SIZE])
            for height, level in enumerate(tree.heights)
            for at in range(0, len(level), KEY_SIZE)
            if level[at : at + KEY_SIZE] != NO_KEY
        }


@pytest.mark.parametrize("size", [18, 24, 33, 64])
def test_the_keys_of_a_part_of_the_tree_that_is_gone_are_gone(size: int):
    crowd = crowd_of(size)
    for number in reversed(range(1, size)):
        crowd.change([], [f"m{number}"])
        check_keys(crowd)


def test_a_tree_that_empties_one_by_one_shrinks_and_is_filled_again():
    crowd = crowd_of(64)
    for number in range(60):
        crowd.change([], [f"m{number}"])
        assert all_agree(crowd)
        assert server_of(crowd).tree.height <= math.log(len(crowd.present), 4) + 2
    assert server_of(crowd).tree.height <= 2
    crowd.change([f"n{number}" for number in range(60)])
    assert server_of(crowd).tree.places == 64
    assert all_agree(crowd)


def test_newcomers_take_the_places_of_those_that_left():
    crowd = crowd_of(50)
    places = {member_of(crowd, f"m{number}")._place for number in (3, 17, 40)}
    crowd.change(["x", "y", "z"], ["m3", "m17", "m40"])
    assert {member_of(crowd, name)._place for name in "xyz"} == places
    crowd.change([], ["x"])
    crowd.change(["w"])
    assert member_of(crowd, "w")._place in places
    assert server_of(crowd).tree.places == 50


def test_members_who_were_told_nothing_follow_a_tree_that_grew():
    crowd = crowd_of(4)
    member, place = crowd.present["m0"], member_of(crowd, "m0")._place
    for start in (4, 16, 64):
        joins = [f"m{start + number}" for number in range(start * 3)]
        assert crowd.change(joins, replace_key=False) == b""
    assert server_of(crowd).tree.height == 4
    crowd.change([], ["m30", "m1"])
    assert member.key == crowd.authority.key and member_of(crowd, "m0")._place == place
    assert all_agree(crowd)


@pytest.mark.parametrize(("members", "allowed"), [(4**6, 43), (5000, 44), (40_000, 43)])
def test_the_tree_takes_little_memory(members: int, allowed: int):
    server = server_with(members)
    assert sum(len(level) for level in server.tree.heights) <= allowed * members
    assert len(server.snapshot()) < 70 * members


# ---- who can follow what


def keys_of(member: object) -> set[bytes]:
    assert isinstance(member, TreeMember)
    return set(member._path)


def everything_from(known: set[bytes], rekeys: list[bytes], real: set[bytes]) -> set[bytes]:
    """Which of the keys that there ever were can be had of these and the rekeys sent, by all that can be done."""
    changes = [LkhTreeChange.FromString(LkhRekey.FromString(raw).tree_change) for raw in rekeys if raw]
    found, fresh = set(known), set(known)
    while fresh:
        had: set[bytes] = set()
        for key in fresh:
            for start in (key, grown(key), grown(grown(key)), grown(grown(grown(key)))):
                had.add(start)
                for change in changes:
                    had |= {derive(start, change.nonce, purpose) for purpose in (PARENT, AGED, GROUP)}
                    had |= unwrapped(change.wrapped_keys, derive(start, change.nonce, WRAP))
        fresh = had & real - found
        found |= fresh
    return found


def unwrapped(wrapped: bytes, pad: bytes) -> set[bytes]:
    parts = [wrapped[at : at + KEY_SIZE] for at in range(0, len(wrapped), KEY_SIZE)]
    return {bytes(a ^ b for a, b in zip(part, pad)) for part in parts}


class Watched(Crowd):
    """Knows every key there ever was, by when; and what each member ever had."""

    def __init__(self, degree: int, seed: int) -> None:
        super().__init__(Lkh(degree), seed)
        self.had: dict[str, set[bytes]] = {}
        self.real: set[bytes] = set()
        self.group_keys: list[bytes] = []

    def step(self, joins: list[str], leaves: list[str], *, replace: bool = True) -> bytes:
        rekey = self.change(joins, leaves, replace_key=replace)
        for name in self.present:
            self.had.setdefault(name, set()).update(keys_of(self.present[name]))
        live = self.live()
        self.real |= live | {self.authority.key.reveal()}
        self.group_keys.append(self.authority.key.reveal())
        return rekey

    def live(self) -> set[bytes]:
        levels = server_of(self).tree.heights
        keys = {bytes(level[at : at + KEY_SIZE]) for level in levels for at in range(0, len(level), KEY_SIZE)}
        return keys - {NO_KEY}


@settings(max_examples=25, deadline=None)
@given(
    degree=st.sampled_from([2, 3, 4]),
    seed=st.integers(0, 2**32),
    steps=st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from([0, 0, 0.1, 0.4, 0.8]), st.booleans()), min_size=2, max_size=7
    ),
)
def test_nobody_has_a_key_that_is_not_its_own(degree: int, seed: int, steps: list[tuple[int, float, bool]]):
    """All that ever left, with every key they had and every rekey there was, have no key of the tree as it is; and
    who joined with a new key has none of the group keys before it."""
    crowd, chance, count = Watched(degree, seed), random.Random(seed), 0
    crowd.step(["a", "b", "c"], [])
    for joining, leaving, replace in steps:
        leaves = sorted(name for name in crowd.present if chance.random() < leaving)
        joins = [f"m{count + number}" for number in range(joining)]
        count += joining
        earlier = set(crowd.group_keys)
        crowd.step(joins, leaves, replace=replace)
        gone = set().union(*(keys for name, keys in crowd.had.items() if name not in crowd.present))
        if gone:
            known = everything_from(gone, crowd.rekeys, crowd.real)
            assert not known & crowd.live()
            assert crowd.authority.key.reveal() not in known or crowd.authority.key.reveal() in earlier
        if joins and (replace or leaves):
            newcomers = set().union(*(crowd.had[name] for name in joins))
            assert not everything_from(newcomers, crowd.rekeys, crowd.real) & earlier


def test_the_search_for_keys_finds_what_can_be_had():
    """The test above would see a key that leads further: a member that stays has all later group keys."""
    crowd = Watched(2, 1)
    crowd.step(["a", "b", "c", "d"], [])
    start = set(crowd.had["a"])
    for joins, leaves in ([], ["b"]), (["e", "f"], []), ([], ["c", "f"]), ([], []):
        crowd.step(joins, leaves)
    assert set(crowd.group_keys[1:]) <= everything_from(start, crowd.rekeys, crowd.real)


def test_who_gave_its_place_to_a_moved_member_is_excluded():
    crowd = crowd_of(16)
    gone = [member_of(crowd, f"m{number}") for number in range(10)]
    rekey = crowd.change([], [f"m{number}" for number in range(10)])
    assert LkhTreeChange.FromString(LkhRekey.FromString(rekey).tree_change).moves
    assert all_agree(crowd)
    for member in gone:
        with pytest.raises(Excluded):
            member.process(rekey)


def test_a_moved_member_that_leaves_has_no_key_of_where_it_was():
    crowd = Watched(4, 1)
    crowd.step([f"m{number}" for number in range(64)], [])
    moved = member_of(crowd, "m63")
    crowd.step([], [f"m{number}" for number in range(33)])
    assert moved._place < 62 <= server_of(crowd).tree.places
    crowd.step([], ["m63"])
    gone = set().union(*(keys for name, keys in crowd.had.items() if name not in crowd.present))
    assert not everything_from(gone, crowd.rekeys, crowd.real) & crowd.live()


def test_who_missed_rekeys_follows_where_it_can_and_knows_where_not():
    crowd = crowd_of(64)
    far, near = crowd.present.pop("m0"), crowd.present.pop("m63")
    crowd.change([], ["m62"])  # changes near's path, and of far's the root only
    rekey = crowd.change([], ["m61"])
    assert far.process(rekey) == crowd.authority.key
    assert near.process(rekey) == crowd.authority.key
    far, near = crowd.present.pop("m1"), crowd.present.pop("m50")
    crowd.change([], ["m49"])
    rekey = crowd.change()  # the new root derives from one that neither has
    for member in (far, near):
        with pytest.raises(Excluded):
            member.process(rekey)


# ---- malformed


def test_every_changed_bit_and_every_cut_is_noticed():
    crowd = crowd_of(20)
    member = crowd.present.pop("m0")
    rekey = crowd.change(["new"], ["m1", "m9", "m13"])
    before = member.key
    for at in range(len(rekey)):
        flipped = bytearray(rekey)
        flipped[at] ^= 1 << at % 8
        for raw in (bytes(flipped), rekey[:at]):
            with pytest.raises((Rejected, Excluded)):
                member.process(raw)
            assert member.key == before
    assert member.process(rekey) == crowd.authority.key


def reshaped(rekey: bytes, **changes: object) -> bytes:
    message = LkhRekey.FromString(rekey)
    change = LkhTreeChange.FromString(message.tree_change)
    for name, value in changes.items():
        change.ClearField(name)  # type: ignore[arg-type]
        change.MergeFrom(LkhTreeChange(**{name: value}))  # type: ignore[arg-type]
    return LkhRekey(tree_change=change.SerializeToString(), confirmation=message.confirmation).SerializeToString()


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": bytes(15)},
        {"height": 0},
        {"height": 2},
        {"height": 4},
        {"height": 33},
        {"height": 2**32 - 1},
        {"moves": [1]},
        {"moves": [0, 19]},
        {"nodes": b""},
        {"nodes": b"\0"},
        {"nodes": b"\0\0" * 40},
        {"nodes": b"\xff\xff" * 2},
        {"wrapped_keys": bytes(31)},
        {"wrapped_keys": bytes(32 * 100)},
    ],
)
def test_shapes_that_are_no_tree_are_rejected(changes: dict[str, object]):
    crowd = crowd_of(20)
    member = crowd.present.pop("m0")
    rekey = crowd.change([], ["m1"])
    with pytest.raises(Rejected, match="rekey"):
        member.process(reshaped(rekey, **changes))
    assert member.process(rekey) == crowd.authority.key


@pytest.mark.parametrize(
    "changes",
    [{"degree": 1}, {"degree": 9}, {"place": 16}, {"path": bytes(95)}, {"path": bytes(32)}, {"group_key": b"x"}],
)
def test_welcomes_that_make_no_sense_are_rejected(changes: dict[str, object]):
    good = {"degree": 4, "place": 15, "path": bytes(96), "group_key": bytes(32)}
    joining = Lkh().begin(seeded(1))
    assert joining.finish(LkhWelcome(**good).SerializeToString()).keys_held == 4  # type: ignore[arg-type]
    with pytest.raises(Rejected, match="welcome"):
        joining.finish(LkhWelcome(**{**good, **changes}).SerializeToString())  # type: ignore[arg-type]


def test_a_record_is_taken_once_in_its_turn_and_unchanged():
    first = server_with(10)
    second = Lkh().restore(first.snapshot(), seeded(2))
    other = Lkh().restore(first.snapshot(), seeded(3))
    record = first.change({"a": b""}, [], replace_key=False).record
    later = first.change({"b": b""}, [], replace_key=False).record
    message = LkhRecord.FromString(record)
    forged = LkhRecord(membership_change=message.membership_change + b"\x10\x01", confirmation=message.confirmation)
    for raw in (later, forged.SerializeToString()):
        with pytest.raises(Rejected, match="record"):
            second.apply(raw)
    second.apply(record)
    with pytest.raises(Rejected, match="record"):
        second.apply(record)
    second.apply(later)
    assert second.snapshot() == first.snapshot()
    other.change({"a": b""}, [], replace_key=False)  # another history
    with pytest.raises(Rejected, match="record"):
        other.apply(later)


@pytest.mark.parametrize(
    "changes",
    [
        {"degree": 1},
        {"degree": 2},
        {"degree": 2**31},
        {"group_key": b""},
        {"history": b""},
        {"heights": []},
        {"heights": [bytes(32 * 12), bytes(32)]},
        {"heights": [bytes(32 * 12), bytes(32 * 4), bytes(64)]},
        {"index_key": b""},
        {"tags": b"x" * 10},
        {"tags": bytes(100)},
        {"tags": b"x" * 99},
        {"slots": b""},
        {"slots": bytes(64)},
        {"slots": bytes(63)},
        {"slots": b"\xff" * 64},
    ],
)
def test_snapshots_that_make_no_sense_are_rejected(changes: dict[str, object]):
    message = LkhSnapshot.FromString(server_with(10).snapshot())
    for name, value in changes.items():
        message.ClearField(name)  # type: ignore[arg-type]
        message.MergeFrom(LkhSnapshot(**{name: value}))  # type: ignore[arg-type]
    with pytest.raises(Rejected, match="record"):
        Lkh().restore(message.SerializeToString(), seeded(1))


@pytest.mark.parametrize("degree", [-1, 0, 1, 9])
def test_a_degree_that_is_none_is_an_error(degree: int):
    with pytest.raises(ValueError, match="degree"):
        KeyTree(degree, bytes(32))


# ---- the index


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=150), st.integers(0, 255))
def test_the_index_is_a_dictionary(steps: list[tuple[int, bool]], home: int):
    """Whatever comes and goes, also where tags share their slot."""
    places, model = Places(bytes(32)), dict[bytes, int]()
    for number, joins in steps:
        tag = bytes([home, 0, 0, 0, 0, 0, 0, 0, 0, number]) if number % 2 else places.tag(str(number))
        assert places.find(tag) == model.get(tag)
        if joins and tag not in model:
            model[tag] = places.next_free(2**32)
            places.put(tag, model[tag])
        elif not joins and tag in model:
            assert places.remove(model.pop(tag)) == tag
            places.trim()
        assert places.members == len(model) and places.size <= max(model.values(), default=-1) + 1
        assert {tag: places.find(tag) for tag in model} == model
    again = Places.load(*places.dump())
    assert {tag: again.find(tag) for tag in model} == model
    assert sorted(model.values()) == [place for place in range(again.size) if again.tag_at(place) != bytes(10)]


def test_a_replica_that_only_repeats_forgets_what_is_free_no_more():
    server = server_with(8)
    replica = Lkh().restore(server.snapshot(), seeded(9))
    for number in range(200):
        replica.apply(
            server.change({f"n{number}": b""}, [f"n{number - 1}" if number else "m0"], replace_key=True).record
        )
    assert len(replica._places._free) < 30
    assert replica.snapshot() == server.snapshot()
    assert replica.key == server.key != GroupKey(bytes(32))
