"""Writing a record, and reading its chain."""

from __future__ import annotations

import hashlib

import pytest

from mcsa.errors import Rejected
from mcsa.record import chain
from mcsa.record.chain import parse_record
from mcsa.record.verify import verify_record
from mcsa.record.writer import RecordWriter
from mcsa.v1 import conference_pb2 as wire
from tests.record.parts import Conference, whole


def test_the_head_is_the_hash_of_the_last_entry():
    one = Conference()
    one.introduce("alice")
    record = wire.Record.FromString(one.writer.serialised())
    assert one.writer.head == hashlib.sha256(record.entries[-1]).digest() and len(one.writer) == 2
    first, second = (wire.RecordEntry.FromString(entry) for entry in record.entries)
    assert (first.previous, first.number, first.kind) == (bytes(32), 1, "description")
    assert (second.previous, second.number) == (hashlib.sha256(record.entries[0]).digest(), 2)
    assert RecordWriter(one.id, "spiffe://example.org/user/bob").head == bytes(32)


def test_a_record_is_resumed_where_it_was_left():
    one = Conference()
    one.introduce("alice")
    one.writer = RecordWriter.resume(one.writer.serialised())
    one.introduce("bob")
    one.close()
    one.countersign()
    assert verify_record(one.writer.serialised(), one.world.trust()).complete
    resumed = RecordWriter.resume(one.writer.serialised())
    assert resumed.finished and resumed.head == one.writer.head
    with pytest.raises(ValueError):
        resumed.message(one.speaker("alice").sign(), one.now)


def test_a_record_that_was_tampered_with_is_not_resumed():
    record = wire.Record.FromString(whole().writer.serialised())
    del record.entries[3]
    with pytest.raises(Rejected) as caught:
        RecordWriter.resume(record.SerializeToString())
    assert caught.value.cause == "chain"


def test_a_clock_set_back_sets_no_entry_back():
    one = Conference(seconds=-5.0)
    one.introduce("alice", "bob")
    entries = parse_record(one.writer.serialised()).entries
    assert {entry.time_ms for entry in entries} == {entries[0].time_ms}
    resumed = RecordWriter.resume(one.writer.serialised())
    resumed.message(one.speaker("alice").sign(sealed=wire.SealedMessage()), 1.0)
    assert parse_record(resumed.serialised()).entries[-1].time_ms == entries[0].time_ms


def test_entries_have_an_order():
    one = Conference()
    fresh = RecordWriter(one.id, "spiffe://example.org/user/bob")
    signed = one.countersignature(fresh.head)
    with pytest.raises(ValueError):
        fresh.message(one.speaker("alice").sign(), one.now)
    with pytest.raises(ValueError):
        fresh.countersigned(signed, one.now)
    with pytest.raises(ValueError):
        one.writer.description(one.statement, one.now)


def test_a_countersignature_over_something_else_is_not_written():
    one = Conference()
    asked = one.countersignature(one.writer.head)
    one.introduce("alice")
    with pytest.raises(Rejected) as caught:
        one.writer.countersigned(asked, one.now)
    assert caught.value.cause == "countersignature" and not one.writer.finished
    one.writer.countersigned(one.countersignature(one.writer.head), one.now)
    assert one.writer.finished


@pytest.mark.parametrize(("after", "now_after"), [(61.0, 61.0), (0.0, 61.0), (-61.0, 0.0)])
def test_a_countersignature_that_comes_late_is_not_written(after: float, now_after: float):
    one = Conference()
    one.introduce("alice")
    head = one.writer.head
    with pytest.raises(Rejected) as caught:
        one.writer.countersigned(one.countersignature(head, after=after), one.now + now_after)
    assert caught.value.cause == "countersignature-time" and one.writer.head == head


def test_after_an_outage_a_status_of_ones_own_makes_a_new_end():
    one = Conference()
    one.introduce("alice", "bob")
    one.close()
    one.now += 300.0
    one.record(one.speaker("bob").status(oldest=1))
    one.countersign()
    assert verify_record(one.writer.serialised(), one.world.trust()).complete


def test_what_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch):
    raw = whole().writer.serialised()
    monkeypatch.setattr(chain, "MAX_ENTRY", 1000)
    with pytest.raises(Rejected) as caught:
        parse_record(raw)
    assert caught.value.cause == "oversize" and caught.value.detail.startswith("entry ")
    monkeypatch.setattr(chain, "MAX_RECORD", len(raw) - 1)
    with pytest.raises(Rejected) as caught:
        parse_record(raw)
    assert caught.value.cause == "oversize" and caught.value.detail.startswith("the record")


def test_an_entry_of_the_greatest_message_is_not_too_large():
    one = Conference()
    one.introduce("alice")
    one.seal("alice", bytes(65_400))
    assert len(parse_record(one.writer.serialised()).raw_entries[-1]) < chain.MAX_ENTRY


@pytest.mark.parametrize(
    ("changes", "cause"),
    [({"version": 2}, "version"), ({"conference_id": b"short"}, "malformed"), ({"user": "bob"}, "name")],
)
def test_another_format_is_not_read(changes: dict[str, object], cause: str):
    record = wire.Record.FromString(whole().writer.serialised())
    for field, value in changes.items():
        setattr(record, field, value)
    with pytest.raises(Rejected) as caught:
        parse_record(record.SerializeToString())
    assert caught.value.cause == cause
