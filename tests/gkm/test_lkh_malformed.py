"""What `lkh` does with bytes that make no sense, or make sense elsewhere."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsa.errors import Rejected
from mcsa.gkm import Excluded
from mcsa.gkm.key_derivation import AGED, CONFIRMATION_SIZE, GROUP, confirm, spend
from mcsa.gkm.key_tree import KeyTree
from mcsa.gkm.lkh import Lkh
from mcsa.v1.gkm_lkh_pb2 import LkhSnapshot, LkhTreeChange, LkhWelcome
from tests.gkm.trees import crowd_of, server_with, tree_change
from tests.world import seeded


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
    change = tree_change(rekey)
    for name, value in changes.items():
        change.ClearField(name)  # type: ignore[arg-type]
        change.MergeFrom(LkhTreeChange(**{name: value}))  # type: ignore[arg-type]
    return change.SerializeToString() + rekey[-CONFIRMATION_SIZE:]


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


@settings(max_examples=300, deadline=None)
@given(
    height=st.integers(0, 40),
    moves=st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 20), max_size=6),
    nodes=st.binary(max_size=40),
    wraps=st.integers(0, 20),
    cut=st.booleans(),
)
def test_nothing_that_an_authority_could_sign_makes_a_member_fail(
    height: int, moves: list[int], nodes: bytes, wraps: int, cut: bool
):
    """Whatever the tree change says, a member raises one of two errors and is as it was."""
    crowd = crowd_of(20)
    member = crowd.present.pop("m0")
    rekey = crowd.change([], ["m1"])
    real = tree_change(rekey).nodes
    for shape in (nodes, nodes + real[-4:], real[:2] + nodes):
        raw = reshaped(
            rekey, height=height, moves=moves, nodes=shape, wrapped_keys=bytes(wraps * 32 - cut * (wraps > 0))
        )
        with pytest.raises((Rejected, Excluded)):
            member.process(raw)
    assert member.process(rekey) == crowd.authority.key


def test_the_largest_rekey_there_may_be_is_looked_at_once():
    """Half a megabyte of nodes, moves or unknown fields: time in proportion, no deeper than the tree's 32 heights."""
    crowd = crowd_of(20)
    member = crowd.present.pop("m0")
    rekey = crowd.change([], ["m1"])
    started_at = time.process_time()
    largest: list[dict[str, object]] = [
        {"nodes": b"\xff\xff" * 250_000, "height": 32},
        {"nodes": b"\x01\x01" * 250_000, "height": 32},
        {"moves": list(range(1_000, 101_000))},
        {"wrapped_keys": bytes(500_000 // 32 * 32)},
    ]
    for changes in largest:
        with pytest.raises((Rejected, Excluded)):
            member.process(reshaped(rekey, **changes))
    assert time.process_time() - started_at < 2
    assert member.process(rekey) == crowd.authority.key


def test_the_last_place_of_the_largest_tree():
    """Places are 32 bits: of a binary tree, height 32."""
    welcome = LkhWelcome(degree=2, place=2**32 - 1, generation=2**64 - 2, path=bytes(33 * 32), group_key=bytes(32))
    member = Lkh().begin(seeded(1)).finish(welcome.SerializeToString())
    change = LkhTreeChange(generation=2**64 - 1, nonce=bytes(16), height=32, nodes=b"\0\0")
    aged = spend(bytes(32), bytes(16), AGED)[1]
    key, root = spend(aged, bytes(16), GROUP)
    raw = change.SerializeToString()
    assert member.process(raw + confirm(root, bytes(16), raw)).reveal() == key


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
    forged = record[:-CONFIRMATION_SIZE] + b"\x10\x01" + record[-CONFIRMATION_SIZE:]
    for raw in (later, forged):
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
