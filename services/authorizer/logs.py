"""The Authorizer's logs as they are stored: sealed, chained, appended to, read, replaced by snapshots.

Between the core, which decides what is recorded, and the store (`mcsa.shell.stream`), which is believed nothing. What
the order of steps is good for, `mcsa.durable_log` says. A log that can't be read on, or ends before its mark, is read
as far as it goes, and not `whole`; what is appended next has to take the place of all that was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from mcsa.durable_log import Chain, Conflict, Mark, Replay, Snapshot, Stored
from mcsa.errors import Rejected
from mcsa.keys import Random
from mcsa.shell.requests import BusUnavailable
from mcsa.shell.storage_key import StorageKeyAtRest
from services.authorizer.events import Loaded

AGAIN_AFTER = 1.0  # seconds after which a store that couldn't be reached is tried again
TURN_AFTER = 0.002  # seconds after which it is looked whether a log is free
JUMP = 1_000_000  # records: more than a log can have lost between two looks at it

events = structlog.get_logger()
_T = TypeVar("_T")


class Store(Protocol):
    """What keeps the records; see `mcsa.shell.stream.LogStream`, which is one."""

    def read(self, log: str, after: int = 0) -> AsyncIterator[Stored]:
        """See there; and so on."""

    async def append(self, log: str, raw: bytes, expected: int) -> int: ...
    async def last(self, log: str) -> Stored | None: ...
    async def purge(self, log: str, before: int) -> None: ...
    async def remove(self, log: str) -> None: ...
    async def logs(self) -> list[str]: ...


@dataclass(slots=True)
class _Log:
    """One log, open at its end."""

    chain: Chain
    sequence: int  # of its last record in the store
    turns_taken: int = 0
    turns_over: int = 0


class Logs:
    """See the module. `pause` waits for so many seconds."""

    def __init__(
        self, store: Store, at_rest: StorageKeyAtRest, random: Random, pause: Callable[[float], Awaitable[None]]
    ) -> None:
        self._store = store
        self._at_rest = at_rest
        self._random = random
        self._pause = pause
        self._keys, self._marks = at_rest.load_or_draw(random)
        self._logs: dict[str, _Log] = {}

    # ---- reading

    async def load(self) -> list[Loaded]:
        """All logs that there are, or were when this machine looked last. `BusUnavailable`."""
        names = sorted({*await self._store.logs(), *(mark.log for mark in self._marks)})
        return [await self.read(name) for name in names]

    async def read(self, name: str) -> Loaded:
        """One log, again or for the first time; what is appended from now on follows it. `BusUnavailable`."""
        async with self._turn(self._logs.setdefault(name, _Log(Chain(name, self._keys), 0))):
            return await self._read(name)

    async def _read(self, name: str) -> Loaded:
        replay, sequences = Replay(name, self._keys), {0: 0}
        try:
            async for stored in self._store.read(name):
                sequences[replay.feed(stored.raw)] = stored.sequence
            replayed = replay.finish()
            self._marks.check(replayed.chain)
        except Rejected as rejected:
            events.error("log", log=name, cause=str(rejected))
            replayed, last = replay.so_far(), await self._store.last(name)
            self._logs[name] = _Log(self._chain_past_damage(replayed.chain), last.sequence if last else 0)
            return Loaded(name, replayed.snapshot, replayed.entries, whole=False)
        self._logs[name] = _Log(replayed.chain, max(sequences.values()))
        self._marks.set(replayed.mark)
        self._save()
        if replayed.purge_before > 1:
            await self._store.purge(name, sequences[replayed.purge_before])
        return Loaded(name, replayed.snapshot, replayed.entries)

    def _chain_past_damage(self, chain: Chain) -> Chain:
        """A place in the log that is past all that was there, for a snapshot to begin at."""
        marked = next((mark.number for mark in self._marks if mark.log == chain.log), 0)
        number = max(marked, chain.number) + JUMP
        return Chain(chain.log, self._keys, number=number, generation=chain.generation)

    # ---- writing

    async def append(self, name: str, plaintext: bytes, *, whole: bool = False) -> None:
        """Returns once the entry is stored, however long that takes; `Conflict` where the log went on elsewhere.

        `whole`: the entry takes the place of all that was before.
        """
        if whole:
            await self.take_snapshot(name, plaintext)
            return
        log = self._logs.get(name) or self._begin(name)
        async with self._turn(log):
            raw = log.chain.seal(plaintext, self._random)
            log.sequence = await self._offer(log, raw)
            log.chain.advance(raw)

    async def take_snapshot(self, name: str, plaintext: bytes) -> None:
        """Returns once it is stored and what was before is gone; likewise. Entries may be stored between its parts."""
        log = self._logs.get(name) or self._begin(name)
        async with self._turn(log):
            snapshot = Snapshot(log.chain, plaintext)
            first = await self._store_part(log, snapshot)
        while not snapshot.complete:
            async with self._turn(log):
                await self._store_part(log, snapshot)
        self._marks.set(snapshot.mark)
        self._save()
        await self._patiently(lambda: self._store.purge(name, first))

    async def end(self, name: str) -> None:
        """The log is gone."""
        log = self._logs.pop(name, None) or _Log(Chain(name, self._keys), 0)
        self._marks.remove(name)
        self._save()
        async with self._turn(log):  # what is under way may still be stored; then it goes too
            await self._patiently(lambda: self._store.remove(name))

    def _begin(self, name: str) -> _Log:
        """Its mark first, so that the key stays where it can be read."""
        log = self._logs[name] = _Log(Chain(name, self._keys), 0)
        self._marks.set(Mark(name, 0, self._keys.next))
        self._save()
        return log

    async def _store_part(self, log: _Log, snapshot: Snapshot) -> int:
        raw = snapshot.seal_next(self._random)
        log.sequence = await self._offer(log, raw)
        snapshot.advance(raw)
        return log.sequence

    async def _offer(self, log: _Log, raw: bytes) -> int:
        try:
            return await self._patiently(lambda: self._store.append(log.chain.log, raw, log.sequence))
        except Conflict:
            self._logs.pop(log.chain.log, None)
            raise

    # ---- waiting

    @asynccontextmanager
    async def _turn(self, log: _Log) -> AsyncIterator[None]:
        """One at a time, in the order in which they came."""
        turn, log.turns_taken = log.turns_taken, log.turns_taken + 1
        while log.turns_over < turn:
            await self._pause(TURN_AFTER)
        try:
            yield
        finally:
            log.turns_over += 1

    async def _patiently(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Until the store can be reached: what waits for it, waits."""
        while True:
            try:
                return await attempt()
            except BusUnavailable as unavailable:
                events.warning("store", rule=unavailable.rule, sentence=unavailable.sentence, again_s=AGAIN_AFTER)
                await self._pause(AGAIN_AFTER)

    def _save(self) -> None:
        self._at_rest.save(self._keys, self._marks)
