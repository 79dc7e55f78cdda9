"""Logs between the core and the store: what is written down when, and what waits for what."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from mcsa.durable_log import Conflict
from mcsa.shell.requests import BusUnavailable
from mcsa.shell.storage_key import StorageKeyAtRest
from services.authorizer.logs import Logs
from tests.simulation.stream import MemoryStream, WaitingStream

NAMES = [f"group-{number:02x}" for number in range(20)]


class CountedKey(StorageKeyAtRest):
    """Counts how often the file is written."""

    written = 0

    def save(self, *args: Any) -> None:
        self.written += 1
        super().save(*args)


@pytest.fixture
def stream() -> MemoryStream:
    return MemoryStream()


def logs(stream: MemoryStream, folder: Path) -> tuple[Logs, CountedKey]:
    at_rest = CountedKey(folder / "storage.key")
    return Logs(WaitingStream(stream), at_rest, os.urandom, quickly), at_rest


async def quickly(seconds: float) -> None:
    await asyncio.sleep(seconds / 100)


async def test_marks_of_many_logs_share_a_writing_and_tell_of_each_record(stream: MemoryStream, tmp_path: Path) -> None:
    first, at_rest = logs(stream, tmp_path)
    await asyncio.gather(*(first.append(name, b"1") for name in NAMES))
    assert at_rest.written <= 6
    for name in NAMES:
        await first.append(name, b"2")
    assert at_rest.written <= 6  # the second record of a log is marked with whatever comes next
    await first.append(NAMES[0], b"3", marked=True)
    for name in NAMES:
        stream.cut(name, 1)
    second, at_rest = logs(stream, tmp_path)
    read = await second.load()
    assert [loaded.whole for loaded in read] == [False] * len(NAMES)
    assert at_rest.written == 1


async def test_a_log_that_begins_again_while_it_ends_waits_and_stays(stream: MemoryStream, tmp_path: Path) -> None:
    first, _ = logs(stream, tmp_path)
    await first.append(NAMES[0], b"old")
    stream.up = False
    ending = asyncio.create_task(first.end(NAMES[0]))
    await asyncio.sleep(0.01)
    beginning = asyncio.create_task(first.append(NAMES[0], b"new"))
    await asyncio.sleep(0.05)
    stream.up = True
    await asyncio.gather(ending, beginning)
    second, _ = logs(stream, tmp_path)
    assert [(loaded.entries, loaded.whole) for loaded in await second.load()] == [((b"new",), True)]


async def test_who_waits_behind_a_conflict_gets_the_same_one(stream: MemoryStream, tmp_path: Path) -> None:
    first, _ = logs(stream, tmp_path)
    await first.append(NAMES[0], b"1")
    copy = stream.copy()
    await first.append(NAMES[0], b"2")
    stream.restore(copy)
    results = await asyncio.gather(*(first.append(NAMES[0], b"more") for _ in range(3)), return_exceptions=True)
    assert {type(result) for result in results} == {Conflict}
    assert not (await first.read(NAMES[0])).whole


async def test_a_store_that_is_away_is_waited_for(stream: MemoryStream, tmp_path: Path) -> None:
    first, _ = logs(stream, tmp_path)
    stream.up = False
    with pytest.raises(BusUnavailable):
        await first.load()
    waiting = asyncio.create_task(first.append(NAMES[0], b"1"))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    stream.up = True
    await waiting
    assert stream.logs() == [NAMES[0]]
