"""No byte of a record can be changed."""

from __future__ import annotations

import random

import pytest
from google.protobuf.message import DecodeError

from mcsa.errors import Rejected
from mcsa.record.verify import verify_record
from mcsa.v1 import conference_pb2 as wire
from tests.record.parts import Conference, rechained, whole


def is_refused(one: Conference, raw: bytes) -> bool:
    try:
        verify_record(raw, one.world.trust())
    except Rejected:
        return True
    return False


def test_every_byte_of_a_small_record_matters():
    one = Conference()
    one.introduce("bob")
    one.say("bob", departure=wire.Departure(reason="alone", positions=one.positions()))
    one.countersign()
    raw = one.writer.serialised()
    assert not is_refused(one, raw)
    accepted = []
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 1 << place % 8
        if not is_refused(one, bytes(changed)):
            accepted.append(place)
    assert accepted == []


def test_any_change_of_a_large_record_is_refused():
    one = whole()
    raw = one.writer.serialised()
    draw = random.Random(7)
    for _ in range(400):
        changed = bytearray(raw)
        changed[draw.randrange(len(raw))] ^= draw.randrange(1, 256)
        assert is_refused(one, bytes(changed))


def test_any_change_is_refused_even_where_the_writer_mends_the_chain():
    """Without countersignature, what users signed can't be changed; when it was written down can."""
    one = whole()
    record = wire.Record.FromString(one.writer.serialised())
    raw_entries = list(record.entries)[:-1]
    draw = random.Random(8)
    tried = 0
    while tried < 300:
        number = draw.randrange(len(raw_entries))
        changed = bytearray(raw_entries[number])
        changed[draw.randrange(len(changed))] ^= draw.randrange(1, 256)
        entries = [wire.RecordEntry.FromString(raw) for raw in raw_entries]
        before = wire.RecordEntry.FromString(raw_entries[number])
        try:
            entries[number] = wire.RecordEntry.FromString(bytes(changed))
        except DecodeError:
            continue
        after = wire.RecordEntry()
        after.CopyFrom(entries[number])
        for entry in (before, after):
            entry.number, entry.previous, entry.time_ms = 0, b"", 0
        if before == after:
            continue
        tried += 1
        assert is_refused(one, rechained(record, entries)), after


@pytest.mark.parametrize("raw", [b"", b"\x00", b"\xff" * 100, b"\x0a\x00"])
def test_what_is_no_record_is_refused(raw: bytes):
    with pytest.raises(Rejected):
        verify_record(raw, Conference().world.trust())
