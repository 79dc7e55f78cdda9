"""What is particular to `lkh`: the tree's shape and costs, and its index."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsa.gkm import Excluded
from mcsa.gkm.key_derivation import PARENT, WRAP, spend
from mcsa.gkm.key_tree import NO_KEY
from mcsa.gkm.lkh import Lkh
from mcsa.gkm.places import Places
from mcsa.keys import KEY_SIZE, GroupKey
from tests.gkm.test_conformance import Crowd
from tests.gkm.trees import DEGREES, all_agree, crowd_of, member_of, path_in_tree, server_of, server_with, tree_change
from tests.world import seeded

# ---- what the RFCs say


def test_the_example_of_eight_members():
    """RFC 9838, "Use of LKH in G-IKEv2": a simple rekey replaces no key of the tree but the root's, the exclusion of F
    two more: 15 for 2, wrapped under 6 (and 16), and 16 for 5, under 11. Ours derives where it need not wrap."""
    crowd = Crowd(Lkh(degree=2))
    crowd.change(list("ABCDEFGH"))
    assert [len(path) for path in paths_of(crowd).values()] == [4] * 8  # leaf, two nodes, root
    before = paths_of(crowd)
    rekey = crowd.change()
    simple = paths_of(crowd)
    assert all(simple[name][:3] == before[name][:3] for name in "ABCDEFGH")
    assert not tree_change(rekey).wrapped_keys
    excluded = crowd.present["F"]
    rekey = crowd.change([], ["F"])
    after, nonce = paths_of(crowd), tree_change(rekey).nonce
    kept = {name: [was_kept(a, b, nonce) for a, b in zip(simple[name], after[name])] for name in after}
    for name in "ABCD":
        assert kept[name] == [True, True, True, False]
    for name in "GH":
        assert kept[name] == [True, True, False, False]
    assert kept["E"] == [True, False, False, False]
    assert after["E"][2] == after["G"][2] == after["H"][2]
    assert all_agree(crowd)
    with pytest.raises(Excluded):
        excluded.process(rekey)


def paths_of(crowd: Crowd) -> dict[str, list[bytes]]:
    return {name: list(member_of(crowd, name)._path) for name in crowd.present}


def was_kept(before: bytes, after: bytes, nonce: bytes) -> bool:
    return after in (before, *(spend(before, nonce, purpose)[1] for purpose in (PARENT, WRAP)))


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
        assert not tree_change(rekey).wrapped_keys
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
        for height, key in enumerate(path_in_tree(crowd, name)):
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


@DEGREES
def test_a_tree_that_grew_untold_and_shrinks_with_the_next_rekey(degree: int):
    """Members never saw the higher tree, and have its keys all the same."""
    crowd = crowd_of(degree**2, degree)
    late = [f"n{number}" for number in range(degree**3)]
    crowd.change(late, replace_key=False)
    assert server_of(crowd).tree.height == 4
    crowd.change([], late)
    assert server_of(crowd).tree.height <= 2 and all_agree(crowd)
    check_keys(crowd)


@pytest.mark.parametrize(("members", "allowed"), [(4**6, 43), (5000, 44), (40_000, 43)])
def test_the_tree_takes_little_memory(members: int, allowed: int):
    server = server_with(members)
    assert sum(len(level) for level in server.tree.heights) <= allowed * members
    assert len(server.snapshot()) < 70 * members


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
