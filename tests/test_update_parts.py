"""Updates in parts: cut, mixed, lost, doubled, forged, and whole again."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsa.errors import Rejected
from mcsa.esp.outbound import packet_size
from mcsa.update_parts import (
    BODY_MAX,
    DATAGRAM_MAX,
    DIGEST_SIZE,
    PARTS_MAX,
    UPDATE_MAX,
    WHOLES_AT_ONCE,
    UpdateReassembly,
    split_update,
)
from mcsa.updates import parse_message
from mcsa.v1.authorizer_pb2 import UpdatePart

WANTED = range(1, 33)


def update(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def parts(number: int, sealed: bytes) -> list[UpdatePart]:
    return [parse_message(datagram).part for datagram in split_update(number, sealed)]


def forged(part: UpdatePart, body: bytes = b"forged") -> UpdatePart:
    found = UpdatePart()
    found.CopyFrom(part)
    found.body = body
    return found


def taken(reassembly: UpdateReassembly, some: list[UpdatePart], wanted: range = WANTED) -> list[bytes]:
    return [whole for part in some if (whole := reassembly.take(part, wanted)) is not None]


def rejected(reassembly: UpdateReassembly, part: UpdatePart) -> str:
    with pytest.raises(Rejected) as caught:
        reassembly.take(part, WANTED)
    return caught.value.cause


# ---- sizes


@pytest.mark.parametrize("size", [0, 1, BODY_MAX, BODY_MAX + 20, 2 * BODY_MAX, 2 * BODY_MAX + 1, UPDATE_MAX])
def test_no_datagram_is_longer_than_what_passes_everywhere(size: int):
    datagrams = split_update(2**64 - 1, update(size))
    assert max(map(len, datagrams)) <= DATAGRAM_MAX
    assert max(packet_size(len(datagram)) for datagram in datagrams) + 8 + 40 <= 1_280
    assert len(datagrams) <= PARTS_MAX


def test_the_sizes_are_those_that_are_written_down():
    assert (DATAGRAM_MAX, BODY_MAX, PARTS_MAX) == (1_187, 1_146, 229)
    assert [len(datagram) for datagram in split_update(2**64 - 1, update(UPDATE_MAX))][200] == DATAGRAM_MAX


def test_what_fits_goes_as_it_is():
    (datagram,) = split_update(1, update(DATAGRAM_MAX - 3))
    assert len(datagram) == DATAGRAM_MAX and parse_message(datagram).update == update(DATAGRAM_MAX - 3)
    assert len(split_update(1, update(DATAGRAM_MAX - 2))) == 2


def test_what_is_too_long_is_a_bug_of_the_caller():
    with pytest.raises(ValueError):
        split_update(1, bytes(UPDATE_MAX + 1))


# ---- whole again


def test_the_largest_update_backwards_each_part_twice():
    sealed = update(UPDATE_MAX)
    some = [part for part in reversed(parts(7, sealed)) for _ in range(2)]
    assert taken(UpdateReassembly(), some) == [sealed]


@given(st.data())
def test_exactly_those_of_which_nothing_is_missing_are_whole(data: st.DataObject):
    reassembly = UpdateReassembly()
    numbers = data.draw(st.lists(st.sampled_from(WANTED), min_size=1, max_size=WHOLES_AT_ONCE, unique=True))
    updates = {number: update(data.draw(st.integers(DATAGRAM_MAX, 6 * BODY_MAX)), number) for number in numbers}
    every = [part for number, sealed in updates.items() for part in parts(number, sealed)]
    arriving = data.draw(st.permutations(every))[data.draw(st.integers(0, len(every))) :]
    arriving = [part for part in arriving for _ in range(data.draw(st.sampled_from([1, 1, 2])))]
    got = {part.SerializeToString() for part in arriving}
    expected = [
        sealed
        for number, sealed in updates.items()
        if all(part.SerializeToString() in got for part in parts(number, sealed))
    ]
    whole = taken(reassembly, arriving)
    assert sorted(set(whole)) == sorted(expected)


def test_updates_that_a_member_has_or_can_not_use_yet_are_ignored():
    reassembly = UpdateReassembly()
    for number in (0, 33, 2**64 - 1):
        assert taken(reassembly, parts(number, update(3_000))) == []
    first, *rest = parts(5, update(3_000))
    assert taken(reassembly, [first]) == []
    assert taken(reassembly, parts(9, update(3_000, 9)), range(6, 38)) == [update(3_000, 9)]
    assert taken(reassembly, rest) == []  # what was collected of 5 went when it wasn't wanted any more


# ---- hostile


@pytest.mark.parametrize(
    "changes",
    [
        {"index": 3},
        {"index": 2**32 - 1},
        {"count": 0},
        {"count": PARTS_MAX + 1},
        {"digest": bytes(DIGEST_SIZE - 1)},
        {"digest": b""},
        {"body": b""},
        {"body": bytes(BODY_MAX + 1)},
    ],
    ids=str,
)
def test_lengths_and_numbers_that_can_not_be(changes: dict[str, int | bytes]):
    part = parts(1, update(3_000))[0]
    for name, value in changes.items():
        setattr(part, name, value)
    assert rejected(UpdateReassembly(), part) == "part"


def test_a_false_part_spoils_a_whole_and_the_repeats_bring_it():
    reassembly, sealed = UpdateReassembly(), update(3_000)
    first, second, third = parts(1, sealed)
    assert taken(reassembly, [first, forged(second), second]) == []
    assert rejected(reassembly, third) == "digest"
    assert taken(reassembly, [first, second, third]) == [sealed]


def test_a_false_whole_does_not_touch_the_true_one():
    reassembly, sealed, false = UpdateReassembly(), update(3_000), update(3_000, 2)
    mixed = [part for pair in zip(parts(1, false), parts(1, sealed), strict=True) for part in pair]
    assert taken(reassembly, mixed) == [false, sealed]


def test_who_fills_the_places_keeps_no_update_out_for_good():
    reassembly, sealed = UpdateReassembly(), update(3_000)
    crowd = [parts(1, update(3_000, seed))[0] for seed in range(2, 2 + 3 * WHOLES_AT_ONCE)]
    assert taken(reassembly, crowd + parts(1, sealed)) == [sealed]
    assert taken(reassembly, crowd[:-1] + parts(2, sealed)) == []  # later than all that fill the places
    crowd = [parts(number, update(3_000))[0] for number in range(2, 33)]
    assert taken(UpdateReassembly(), crowd + parts(1, sealed)) == [sealed]


def test_memory_is_bounded():
    reassembly = UpdateReassembly()
    tracemalloc.start()
    try:
        for seed in range(4 * WHOLES_AT_ONCE):
            taken(reassembly, parts(1 + seed % 32, update(UPDATE_MAX, seed))[1:])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.2 * WHOLES_AT_ONCE * UPDATE_MAX


@given(st.lists(st.binary(max_size=200)))
def test_bytes_of_anybody_are_rejected_or_ignored(raws: list[bytes]):
    reassembly = UpdateReassembly()
    for raw in raws:
        try:
            message = parse_message(raw)
            reassembly.take(message.part, WANTED)
        except Rejected as error:
            assert error.cause in ("malformed", "part", "digest")
