"""A record opens in its place, and nowhere else."""

from __future__ import annotations

import pytest

from mcsa.durable_log import Chain, StorageKeys, check_log_name
from mcsa.durable_log.ratchet import FURTHEST
from mcsa.durable_log.record import MAX_RECORD, parse_record
from mcsa.errors import Rejected
from mcsa.keys import StorageKey
from mcsa.v1.log_pb2 import LogRecord
from tests.durable_log.parts import LOG, RANDOM, append, keys


def stored_log(*plaintexts: bytes, log: str = LOG) -> list[bytes]:
    stored: list[bytes] = []
    append(stored, Chain(log, keys()), *plaintexts)
    return stored


def reader(log: str = LOG) -> Chain:
    return Chain(log, keys())


def test_what_was_sealed_opens_in_its_order():
    chain = reader()
    opened = [chain.open(raw) for raw in stored_log(b"one", b"", b"three")]
    assert [one.plaintext for one in opened] == [b"one", b"", b"three"]
    assert [one.number for one in opened] == [1, 2, 3]
    assert {one.part for one in opened} == {None}


def test_sealing_moves_nothing_until_it_is_stored():
    chain = reader()
    first, other = chain.seal(b"one", RANDOM), chain.seal(b"one", RANDOM)
    assert first != other, "a fresh salt each time"
    assert chain.number == 0
    chain.advance(other)
    assert chain.number == 1
    with pytest.raises(ValueError, match="not what was sealed last"):
        chain.advance(first)


def test_two_that_follow_one_another_hold_the_same_place():
    writer, follower = reader(), reader()
    for plaintext in (b"one", b"two"):
        raw = writer.seal(plaintext, RANDOM)
        writer.advance(raw)
        follower.open(raw)
    raw = follower.seal(b"three", RANDOM)
    assert writer.open(raw).plaintext == b"three"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (lambda log: log[0], "rolled back"),
        (lambda log: log[1], "rolled back"),
        (lambda log: log[3], "missing"),
        (lambda _log: stored_log(b"1", b"2", b"3")[2], "another past"),
        (lambda _log: b"", "malformed"),
        (lambda _log: b"\xff" * 100, "malformed"),
        (lambda log: log[2] + log[2], "malformed"),
        (lambda log: log[2] + b"\xf8\x01\x00", "malformed"),
        (lambda log: log[2][:-1], "malformed"),
    ],
    ids=["first", "same", "gap", "fork", "empty", "garbage", "doubled", "unknown-field", "cut"],
)
def test_what_is_not_next_is_rejected_and_changes_nothing(raw, why):
    stored = stored_log(b"1", b"2", b"3", b"4")
    chain = reader()
    for before in stored[:2]:
        chain.open(before)
    with pytest.raises(Rejected, match=why) as rejected:
        chain.open(raw(stored))
    assert rejected.value.cause == "log"
    assert chain.open(stored[2]).plaintext == b"3"


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.MergeFrom(LogRecord(generation=record.generation + 1)),
        lambda record: record.MergeFrom(LogRecord(salt=bytes(32))),
        lambda record: record.MergeFrom(LogRecord(ciphertext=bytes(20))),
        lambda record: record.snapshot.SetInParent(),
        lambda record: record.MergeFrom(LogRecord(version=2)),
    ],
    ids=["generation", "salt", "ciphertext", "snapshot", "version"],
)
def test_no_field_can_be_altered(change):
    record = parse_record(stored_log(b"1")[0])
    change(record)
    with pytest.raises(Rejected):
        reader().open(record.SerializeToString(deterministic=True))


def test_every_bit_counts():
    raw = stored_log(b"1")[0]
    for place in range(len(raw)):
        altered = bytearray(raw)
        altered[place] ^= 1
        with pytest.raises(Rejected) as rejected:
            reader().open(bytes(altered))
        assert rejected.value.cause == "log"


def test_a_number_that_is_made_to_fit_does_not_open():
    """The number and the past are bound, not only compared."""
    stored, other = stored_log(b"1", b"2"), stored_log(b"x", b"y")
    record = parse_record(other[1])
    record.previous = parse_record(stored[1]).previous
    chain = reader()
    chain.open(stored[0])
    with pytest.raises(Rejected, match="does not open"):
        chain.open(record.SerializeToString(deterministic=True))


def test_a_record_of_another_log_does_not_open():
    with pytest.raises(Rejected, match="does not open"):
        reader("group-01").open(stored_log(b"1")[0])


def test_a_generation_rises_with_a_snapshot_only():
    stored = stored_log(b"1")
    chain = Chain(LOG, keys())
    chain.open(stored[0])
    leader = Chain(LOG, keys(), number=1, head=chain.head, generation=chain.generation + 1)
    with pytest.raises(Rejected, match="is of generation"):
        chain.open(leader.seal(b"2", RANDOM))


def test_an_erased_generation_is_gone_and_the_later_ones_are_not():
    old, new = keys(), keys()
    later = old.at(7)
    new.advance(5)
    assert new.at(7) == later
    assert new.at(5) == old.at(5)
    assert new.at(7) == later
    with pytest.raises(Rejected, match="erased"):
        new.at(4)
    with pytest.raises(Rejected, match="erased"):
        new.advance(4)
    assert len({old.at(generation) for generation in range(8)}) == 8


def test_a_record_that_lies_about_its_generation_costs_little():
    with pytest.raises(Rejected, match="out of reach"):
        keys().at(FURTHEST + 1)
    keys().at(FURTHEST)


def test_another_storage_key_opens_nothing():
    other = StorageKeys(0, StorageKey(bytes(32)))
    with pytest.raises(Rejected, match="does not open"):
        Chain(LOG, other).open(stored_log(b"1")[0])


def test_plaintexts_do_not_show():
    raw = stored_log(b"a secret that would be seen")[0]
    assert b"secret" not in raw
    assert len(raw) < len(b"a secret that would be seen") + 130


def test_what_a_broker_could_not_carry_is_a_mistake():
    with pytest.raises(ValueError, match="at most"):
        reader().seal(bytes(MAX_RECORD), RANDOM)


@pytest.mark.parametrize("name", ["", "Group", "a.b", "a b", "*", ">", "ä", "-a", "a" * 129])
def test_a_name_can_stand_in_a_subject(name):
    with pytest.raises(ValueError, match="not the name"):
        check_log_name(name)
    with pytest.raises(ValueError, match="not the name"):
        Chain(name, keys())
