"""What a store in memory does to us; that it is else like the real one is in tests/shell/test_stream.py."""

from __future__ import annotations

import os

import pytest

from mcsa.durable_log import Chain, Conflict, Marks, Replay, Replayed, Snapshot
from mcsa.errors import Rejected
from mcsa.shell.bus import BusUnavailable
from mcsa.shell.storage_key import StorageKeyAtRest
from tests.durable_log.parts import LOG, RANDOM, keys
from tests.simulation.stream import MemoryStream

LARGE = bytes(1 << 20)  # two parts


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_an_append_that_nobody_answered_is_made_again(lost):
    stream = MemoryStream()
    stream.fail_next = lost
    with pytest.raises(BusUnavailable) as unavailable:
        stream.append(LOG, b"1", 0)
    assert unavailable.value.rule == "timeout"
    assert (stream.last(LOG) is None) == (lost == "request")
    assert stream.append(LOG, b"1", 0) == 1
    assert [stored.raw for stored in stream.read(LOG)] == [b"1"]


def test_an_older_copy_and_a_cut_tail_are_conflicts_to_who_remembers():
    for forget in ("restore", "cut"):
        stream = MemoryStream()
        first = stream.append(LOG, b"1", 0)
        copy = stream.copy()
        second = stream.append(LOG, b"2", first)
        if forget == "restore":
            stream.restore(copy)
        else:
            stream.cut(LOG, 1)
        with pytest.raises(Conflict) as conflict:
            stream.append(LOG, b"3", second)
        assert conflict.value.rule == "rolled-back"
        stream.append(LOG, b"other", first)
        assert [stored.raw for stored in stream.read(LOG)] == [b"1", b"other"]


def test_a_store_that_is_down_says_so():
    stream = MemoryStream()
    stream.up = False
    for ask in (lambda: stream.append(LOG, b"1", 0), lambda: stream.last(LOG), stream.logs):
        with pytest.raises(BusUnavailable):
            ask()


def replay(stream: MemoryStream, at_rest: StorageKeyAtRest) -> tuple[Replayed, Marks]:
    with_keys, marks = at_rest.load_or_draw()
    reading = Replay(LOG, with_keys)
    for stored in stream.read(LOG):
        reading.feed(stored.raw)
    replayed = reading.finish()
    marks.check(replayed.chain)
    return replayed, marks


@pytest.mark.parametrize("crash_before", ["part 0", "part 1", "key", "purge", "nothing"])
def test_a_snapshot_survives_a_crash_before_each_of_its_steps(tmp_path, crash_before):
    """The order of `mcsa.durable_log`, twice: the second time after the crash, by who begins anew."""
    stream, at_rest = MemoryStream(), StorageKeyAtRest(tmp_path / "storage.key")
    chain, sequence = replay(stream, at_rest)[0].chain, 0
    for plaintext in (b"1", b"2"):
        raw = chain.seal(plaintext, RANDOM)
        sequence = stream.append(LOG, raw, sequence)
        chain.advance(raw)
    for crash in (crash_before, None):
        replayed, marks = replay(stream, at_rest)
        assert (replayed.snapshot, replayed.entries) in [(None, (b"1", b"2")), (LARGE, ())]
        chain, last = replayed.chain, stream.last(LOG)
        assert last is not None
        snapshot, sequence, first = Snapshot(chain, LARGE), last.sequence, None
        for step in ("part 0", "part 1", "key", "purge"):
            if step == crash:
                break
            if step.startswith("part"):
                raw = snapshot.seal_next(os.urandom)
                sequence = stream.append(LOG, raw, sequence)
                first = first or sequence
                snapshot.advance(raw)
            elif step == "key":
                marks.set(snapshot.mark)
                at_rest.save(chain.keys, marks)
            else:
                assert first is not None
                stream.purge(LOG, first)
    replayed, marks = replay(stream, at_rest)
    assert (replayed.snapshot, replayed.entries) == (LARGE, ())
    assert len(list(stream.read(LOG))) == 2
    assert marks.generation(otherwise=0) == chain.keys.generation == replayed.mark.generation
    with pytest.raises(Rejected, match="rolled back"):
        marks.check(Chain(LOG, keys()))
