"""Room: who has to go when it is full."""

from __future__ import annotations

import random

from mcsa.sap.room import Room
from mcsa.sap.withdrawn import IN_ALL, OWN, PER_SOURCE, Withdrawal, Withdrawn


def test_one_source_has_its_part_and_loses_its_own_oldest():
    room: Room[str] = Room(100, 30)
    room.put("another", "b", 10)
    assert [room.put(f"a{number}", "a", 10) for number in range(3)] == [[], [], []]
    assert room.put("a3", "a", 10) == ["a0"]
    assert (room.taken_by("a"), room.taken_by("b"), room.taken) == (30, 10, 40)


def test_what_was_heard_once_goes_before_what_was_repeated():
    room: Room[str] = Room(100, 30)
    for name in ("a0", "a1", "a2"):
        room.put(name, "a", 10)
    room.heard_again("a0", "a")
    assert room.put("a3", "a", 10) == ["a1"]
    for name in ("a2", "a3"):
        room.heard_again(name, "a")
    room.heard_again("a0", "a")
    assert room.put("a4", "a", 10) == ["a2"]  # all were repeated, this one the longest ago


def test_the_greediest_goes_first():
    room: Room[str] = Room(50, 40)
    for name in ("a0", "a1", "a2", "b0", "c0"):
        room.put(name, name[0], 10)
    assert room.put("c1", "c", 10) == ["a0"]
    room.heard_again("a1", "a")
    room.heard_again("a2", "a")
    assert room.put("d0", "d", 10) == ["c0"]  # of what was heard once c has most


def test_sums_are_right_after_anything():
    chance = random.Random(4)
    room: Room[int] = Room(1_000, 300)
    there: dict[int, tuple[str, int]] = {}
    for number in range(3_000):
        match chance.randrange(4):
            case 0 | 1:
                source, size = f"s{chance.randrange(6)}", chance.randrange(1, 80)
                for gone in room.put(number, source, size, repeated=chance.random() < 0.2):
                    del there[gone]
                there[number] = source, size
            case 2 if there:
                key = chance.choice(list(there))
                room.remove(key, there.pop(key)[0])
            case 3 if there:
                key = chance.choice(list(there))
                room.heard_again(key, there[key][0])
        assert room.taken == sum(size for _, size in there.values()) <= 1_000
        for source in {source for source, _ in there.values()}:
            assert room.taken_by(source) == sum(size for whose, size in there.values() if whose == source) <= 300
    room.remove(-1, "s1")
    room.remove(-1, "nobody")


# ---- withdrawn


def test_a_thousand_pairs_push_no_withdrawal_out():
    """Of whoever announces and withdraws for the purpose, also in the name of the one that is meant."""
    withdrawn = Withdrawn()
    withdrawn.add(Withdrawal("ours", "198.51.100.1", 60.0, own=True))
    withdrawn.add(Withdrawal("theirs", "198.51.100.2", 600.0))
    for source in ("198.51.100.66", "198.51.100.2", "198.51.100.1"):
        for number in range(3 * PER_SOURCE):
            withdrawn.add(Withdrawal(f"{source} {number}", source, 0.5))
    for number in range(2 * IN_ALL):
        withdrawn.add(Withdrawal(f"anywhere {number}", f"203.0.{number // 200}.{number % 200}", 0.5))
    assert "ours" in withdrawn and "theirs" in withdrawn
    assert len(withdrawn) <= IN_ALL + 1
    assert {each.commitment for each in withdrawn} >= {"ours", "theirs"}


def test_what_goes_by_one_order_leaves_nothing_in_the_other():
    withdrawn = Withdrawn()
    for number in range(20 * PER_SOURCE):
        withdrawn.add(Withdrawal(str(number), "198.51.100.66", number / 1_000))
    assert len(withdrawn) == PER_SOURCE
    assert len(withdrawn._all._heap) <= 2 * PER_SOURCE + 64
    assert str(20 * PER_SOURCE - 1) in withdrawn and "0" not in withdrawn


def test_own_ones_are_bounded_too_and_the_same_twice_is_one():
    withdrawn = Withdrawn()
    for number in range(OWN + 9):
        withdrawn.add(Withdrawal(str(number), "198.51.100.1", 1.0, own=True))
    withdrawn.add(Withdrawal(str(OWN), "198.51.100.2", 1.0))
    assert len(withdrawn) == OWN and "8" not in withdrawn and "9" in withdrawn
