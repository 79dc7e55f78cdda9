"""The file with the storage key, through every step of a ratchet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mcsa.durable_log import Chain, Mark, Marks, StorageKeys
from mcsa.errors import Refused
from mcsa.shell.sealed_file import write_atomically
from mcsa.shell.storage_key import StorageKeyAtRest
from tests.durable_log.parts import append, append_snapshot, replay


@pytest.fixture
def at_rest(tmp_path: Path) -> StorageKeyAtRest:
    return StorageKeyAtRest(tmp_path / "storage.key")


def test_a_key_is_drawn_once(at_rest, tmp_path):
    keys, marks = at_rest.load_or_draw()
    assert (keys.generation, list(marks)) == (0, [])
    assert (tmp_path / "storage.key").stat().st_mode & 0o777 == 0o600
    again, _ = at_rest.load_or_draw()
    assert again.at(0) == keys.at(0)


def test_marks_are_remembered_and_the_key_follows_the_last_of_them(at_rest):
    keys, marks = at_rest.load_or_draw()
    early = StorageKeys(0, keys.at(0))
    marks.set(Mark("a", 7, 2))
    marks.set(Mark("b", 3, 1))
    at_rest.save(keys, marks)
    read, then = at_rest.load_or_draw()
    assert read.generation == keys.generation == 1
    assert set(then) == {Mark("a", 7, 2), Mark("b", 3, 1)}
    assert read.at(1) == early.at(1)
    then.set(Mark("b", 9, 5))
    at_rest.save(read, then)
    assert at_rest.load_or_draw()[0].generation == 2


def test_the_key_never_goes_back(at_rest):
    keys, marks = at_rest.load_or_draw()
    marks.set(Mark("a", 7, 4))
    at_rest.save(keys, marks)
    at_rest.save(keys, Marks([Mark("a", 7, 2)]))
    at_rest.save(keys, Marks())
    assert at_rest.load_or_draw()[0].generation == 4


def test_the_old_key_is_overwritten(at_rest, tmp_path):
    keys, marks = at_rest.load_or_draw()
    old = keys.at(0).reveal()
    with (tmp_path / "storage.key").open("rb") as thief:
        assert old in thief.read()
        marks.set(Mark("a", 1, 1))
        at_rest.save(keys, marks)
        thief.seek(0)
        assert not any(thief.read())
    assert old not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


class CrashError(Exception):
    pass


@pytest.mark.parametrize("step", ["before", "after"])
def test_a_crash_around_the_writing_loses_nothing(at_rest, step, monkeypatch):
    """In the middle of it is `write_atomically`'s part."""
    keys, marks = at_rest.load_or_draw()
    stored: list[bytes] = []
    chain = Chain("group-00ff", keys)
    append(stored, chain, b"1")
    keys.advance(0)
    snapshot = append_snapshot(stored, chain, b"state")
    append(stored, chain, b"2")
    marks.set(snapshot.mark)

    def crash(path: Path, content: bytes) -> None:
        if step == "after":
            write_atomically(path, content)
        raise CrashError

    monkeypatch.setattr("mcsa.shell.storage_key.write_atomically", crash)
    with pytest.raises(CrashError):
        at_rest.save(keys, marks)
    monkeypatch.undo()
    read, remembered = at_rest.load_or_draw()
    replayed = replay(stored, read)
    assert (replayed.snapshot, replayed.entries) == (b"state", (b"2",))
    remembered.set(replayed.mark)
    at_rest.save(read, remembered)
    assert replay(stored[snapshot.first - 1 :], at_rest.load_or_draw()[0]).entries == (b"2",)


@pytest.mark.parametrize(
    "content",
    [b"", b"mcsa storage key 1\n", b"mcsa storage key 1\n\xff", os.urandom(32)],
    ids=["empty", "no key", "no whole key", "random"],
)
def test_what_is_no_key_is_not_replaced(at_rest, tmp_path, content):
    path = tmp_path / "storage.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(Refused, match="is no storage key") as refused:
        at_rest.load_or_draw()
    assert refused.value.code == "key-file"
    assert path.read_bytes() == content


def test_a_key_that_others_may_read_is_not_used(at_rest, tmp_path):
    at_rest.load_or_draw()
    (tmp_path / "storage.key").chmod(0o640)
    with pytest.raises(Refused, match="chmod 600"):
        at_rest.load_or_draw()
