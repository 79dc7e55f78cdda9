"""What a log amounts to, whole, cut short at any place, and older than it was."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsa.durable_log import PART_SIZE, Chain, Mark, Marks, Replay, Snapshot
from mcsa.durable_log.record import parse_record
from mcsa.errors import Rejected
from tests.durable_log.parts import LOG, RANDOM, append, append_part, append_snapshot, keys, replay

LARGE = bytes(range(256)) * (2 * PART_SIZE // 256) + b"end"  # three parts


def test_an_empty_log_is_a_new_one():
    new = replay([])
    assert (new.snapshot, new.entries, new.chain.number, new.purge_before) == (None, (), 0, 1)
    assert new.chain.generation == new.mark.generation == 1, "holds up nothing"


def test_entries_without_a_snapshot():
    stored: list[bytes] = []
    append(stored, Chain(LOG, keys()), b"1", b"2")
    read = replay(stored)
    assert (read.snapshot, read.entries, read.mark) == (None, (b"1", b"2"), Mark(LOG, 2, 1))
    append(stored, read.chain, b"3")
    assert replay(stored).entries == (b"1", b"2", b"3")


@pytest.mark.parametrize("plaintext", [b"", b"state", LARGE, bytes(PART_SIZE)], ids=["empty", "small", "large", "full"])
def test_a_snapshot_takes_the_place_of_what_was_before(plaintext):
    stored: list[bytes] = []
    chain = Chain(LOG, keys())
    append(stored, chain, b"1", b"2")
    snapshot = append_snapshot(stored, chain, plaintext)
    append(stored, chain, b"3")
    for shown in (stored, stored[snapshot.first - 1 :]):
        read = replay(shown)
        assert read.snapshot == plaintext
        assert read.entries == (b"3",)
        assert read.purge_before == snapshot.first == 3
        assert read.mark.generation == snapshot.mark.generation
        assert (read.chain.number, read.chain.head) == (chain.number, chain.head)
    assert max(map(len, stored)) < PART_SIZE + 200


def test_what_was_before_is_not_readable_with_the_next_key():
    """A thief of the disk after the ratchet, with every record that ever was."""
    stored: list[bytes] = []
    chain = Chain(LOG, keys(3))
    append(stored, chain, b"1", b"2")
    chain.keys.advance(chain.generation)
    append_snapshot(stored, chain, b"12")
    append(stored, chain, b"3")
    assert replay(stored, keys(4)).entries == (b"3",), "before the key moves on all of it opens"
    thief = Chain(LOG, keys(5), generation=5)
    with pytest.raises(Rejected):
        thief.open(stored[0])
    with pytest.raises(Rejected, match="erased"):
        thief.keys.at(parse_record(stored[1]).generation)
    assert replay(stored, keys(5)).snapshot == b"12"
    with pytest.raises(Rejected, match="nothing that can be read"):
        replay(stored, keys(6))


def test_the_last_complete_snapshot_counts_and_entries_between_its_parts_are_kept():
    stored: list[bytes] = []
    chain = Chain(LOG, keys())
    append(stored, chain, b"1")
    append_snapshot(stored, chain, b"first")
    append(stored, chain, b"2")
    snapshot = Snapshot(chain, LARGE)
    append_part(stored, snapshot)
    append(stored, chain, b"3")
    append_part(stored, snapshot)
    append(stored, chain, b"4")
    unfinished = replay(stored)
    assert (unfinished.snapshot, unfinished.entries) == (b"first", (b"2", b"3", b"4"))
    assert not snapshot.complete
    append_part(stored, snapshot)
    assert snapshot.complete
    append(stored, chain, b"5")
    read = replay(stored)
    assert (read.snapshot, read.entries) == (LARGE, (b"3", b"4", b"5"))
    assert replay(stored[read.purge_before - 1 :]).entries == read.entries


def test_a_snapshot_that_was_left_is_taken_again():
    stored: list[bytes] = []
    chain = Chain(LOG, keys())
    append(stored, chain, b"1")
    append_part(stored, Snapshot(chain, LARGE))
    again = replay(stored).chain
    append(stored, again, b"2")
    append_snapshot(stored, again, b"12")
    read = replay(stored)
    assert (read.snapshot, read.entries, read.purge_before) == (b"12", (), 4)
    assert replay(stored[1:], keys(1)).snapshot == b"12", "begins with the part that was left"


def test_a_snapshot_of_what_is_no_more_is_a_mistake():
    stored: list[bytes] = []
    chain = Chain(LOG, keys())
    snapshot = Snapshot(chain, b"")
    append(stored, chain, b"1")
    with pytest.raises(ValueError, match="gone on"):
        snapshot.seal_next(RANDOM)
    with pytest.raises(ValueError, match="not complete"):
        _ = snapshot.mark
    with pytest.raises(ValueError, match="no part"):
        _ = snapshot.first


def test_a_purge_that_was_cut_short_leaves_what_is_skipped():
    stored: list[bytes] = []
    chain = Chain(LOG, keys())
    append(stored, chain, b"1", b"2", b"3")
    chain.keys.advance(1)
    append_snapshot(stored, chain, b"123")
    append(stored, chain, b"4")
    for purged in range(4):
        read = replay(stored[purged:], keys(2))
        assert (read.snapshot, read.entries, read.purge_before) == (b"123", (b"4",), 4)


def test_a_purge_under_the_readers_hands():
    stored: list[bytes] = []
    chain = Chain(LOG, keys())
    append(stored, chain, b"1", b"2", b"3")
    append_snapshot(stored, chain, b"123")
    append(stored, chain, b"4")
    read = replay([stored[0], *stored[3:]])
    assert (read.snapshot, read.entries) == (b"123", (b"4",))
    with pytest.raises(Rejected, match="missing"):
        replay([stored[0], *stored[2:]])


def test_a_log_without_its_beginning_is_none():
    stored: list[bytes] = []
    chain = Chain(LOG, keys())
    append(stored, chain, b"1")
    append_part(stored, Snapshot(chain, LARGE))
    append(stored, chain, b"2")
    for missing in (1, 2):
        with pytest.raises(Rejected):
            replay(stored[missing:])
    with pytest.raises(Rejected, match="nothing that can be read"):
        replay(stored[:1], keys(2))


def test_no_earlier_record_comes_after_a_later_one():
    stored: list[bytes] = []
    chain = Chain(LOG, keys())
    append(stored, chain, b"1")
    append_snapshot(stored, chain, b"1")
    append(stored, chain, b"2")
    append_snapshot(stored, chain, b"12")
    for shown in ([*stored, stored[1]], [*stored, stored[0]], [stored[3], stored[1]]):
        with pytest.raises(Rejected, match="rolled back"):
            replay(shown)


def test_a_mark_notices_what_the_log_can_not_tell():
    stored: list[bytes] = []
    append(stored, Chain(LOG, keys()), b"1", b"2", b"3")
    marks = Marks([replay(stored[:2]).mark])
    marks.check(replay(stored).chain)
    marks.check(replay(stored[:2]).chain)
    for shown in (stored[:1], []):
        with pytest.raises(Rejected, match="rolled back"):
            marks.check(replay(shown).chain)
    marks.remove(LOG)
    marks.check(replay([]).chain)
    assert LOG not in marks


def test_the_key_moves_on_when_the_last_log_has_followed():
    marks = Marks([Mark("a", 5, 3), Mark("b", 5, 4)])
    assert (marks.generation(otherwise=9), marks.behind(4)) == (3, ["a"])
    marks.set(Mark("a", 9, 4))
    assert (marks.generation(otherwise=9), marks.behind(4)) == (4, [])
    assert Marks().generation(otherwise=9) == 9


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(["entry", "begin", "part", "advance-key", "purge", "crash"]), max_size=30))
def test_nothing_that_was_stored_is_lost_wherever_it_stops(steps):
    """Entries, parts, the steps of `mcsa.durable_log`, and crashes in any order: what was stored is what is read."""
    on_disk = 0
    stored: list[bytes] = []
    written: list[bytes] = []
    chain, snapshot, first = Chain(LOG, keys()), None, 1

    def state():
        read = replay(stored, keys(on_disk))
        before = [] if read.snapshot is None else read.snapshot[: read.snapshot.index(b"|") + 1].split(b" ")[:-1]
        return read, before + list(read.entries)

    for step in steps:
        match step:
            case "entry":
                written.append(b"%d" % len(written))
                append(stored, chain, written[-1])
            case "begin":
                snapshot = Snapshot(chain, b"".join(entry + b" " for entry in written) + b"|" + bytes(PART_SIZE))
                append_part(stored, snapshot)
            case "part" if snapshot and not snapshot.complete:
                append_part(stored, snapshot)
            case "advance-key":
                read, _ = state()
                on_disk = read.mark.generation
                chain.keys.advance(on_disk)
            case "purge":
                read, _ = state()
                if read.mark.generation == on_disk:
                    stored = stored[read.purge_before - first :]
                    first = read.purge_before
            case "crash":
                read, _ = state()
                chain, snapshot = read.chain, None
        read, entries = state()
        assert entries == written
        assert (read.chain.number, read.chain.head) == (chain.number, chain.head)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 9), max_size=14))
def test_whatever_the_store_shows_is_the_log_as_it_was_once_or_rejected(shown):
    """Any of its records, in any order, doubled and left out."""
    stored: list[bytes] = []
    chain = Chain(LOG, keys())
    append(stored, chain, b"0", b"1")
    append_snapshot(stored, chain, b"01" + bytes(PART_SIZE))
    append(stored, chain, b"2")
    append_snapshot(stored, chain, b"012")
    append(stored, chain, b"3", b"4", b"5", b"6")
    then = [replay(stored[:length]) for length in range(len(stored) + 1)]
    reading = Replay(LOG, keys())
    try:
        for index in shown:
            reading.feed(stored[index])
        read = reading.finish()
    except Rejected as rejected:
        assert rejected.cause == "log"
    else:
        assert (read.snapshot, read.entries) in [(one.snapshot, one.entries) for one in then]


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300))
def test_garbage_is_rejected(raw):
    reading = Replay(LOG, keys())
    with pytest.raises(Rejected) as rejected:
        reading.feed(raw)
    assert rejected.value.cause == "log"
