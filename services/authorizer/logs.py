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
from mcsa.errors import Refused, Rejected
from mcsa.keys import Random
from mcsa.shell.requests import BusUnavailable
from mcsa.shell.storage_key import StorageKeyAtRest
from services.authorizer.events import Loaded

AGAIN_AFTER = 1.0  # seconds after which a store or a disk that refused is tried again
TURN_AFTER = 0.002  # seconds after which it is looked whether a log is free
TOGETHER = 0.002  # seconds in which what is to be marked shares one writing of the key file, and more
TOGETHER_EACH = 5e-6  # for each mark in it: writing that takes 1.5e-6, and nothing else goes on meanwhile
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
    sequence: int = 0  # of its last record in the store
    turns_taken: int = 0
    turns_over: int = 0
    lost: Conflict | None = None  # it went on elsewhere: whoever waited for it learns the same


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
        self._to_save = self._saved = 0  # wishes that the marks be written down

    # ---- reading

    async def load(self) -> list[Loaded]:
        """All logs that there are, or were when this machine looked last. `BusUnavailable`.

        `Refused("storage-key")` where there are logs and the key, which never had any, opens none of them: who went on
        would take them for damaged, and remove them.
        """
        names = sorted({*await self._store.logs(), *(mark.log for mark in self._marks)})
        is_new = not len(self._marks)
        read = [await self._read(name) for name in names]
        if is_new and read and not any(loaded.snapshot or loaded.entries for loaded, _ in read):
            sentence = (
                f"{len(read)} logs are stored, and this storage key opens none; bring the one they were made with."
            )
            raise Refused("storage-key", "logs", sentence)
        await self._write_marks()  # not before all are read: the key stays where the last of them needs it
        for loaded, needed_from in read:
            await self._store.purge(loaded.log, needed_from)
        return [loaded for loaded, _ in read]

    async def read(self, name: str) -> Loaded:
        """One log, again or for the first time; what is appended from now on follows it. `BusUnavailable`."""
        async with self._turn(self._logs.setdefault(name, self._begun(name))):
            loaded, needed_from = await self._read(name)
            await self._save()
            await self._store.purge(name, needed_from)
            return loaded

    async def _read(self, name: str) -> tuple[Loaded, int]:
        """And the sequence of the first record that is needed; 0 where nothing can go."""
        replay, sequences = Replay(name, self._keys), {0: 0}
        try:
            async for stored in self._store.read(name):
                sequences[replay.feed(stored.raw)] = stored.sequence
            replayed = replay.finish()
            self._marks.check(replayed.chain)
        except Rejected as rejected:
            events.error("log", log=name, cause=str(rejected))
            replayed, last = replay.so_far(), await self._store.last(name)
            self._open(self._chain_past_damage(replayed.chain), last.sequence if last else 0)
            return Loaded(name, replayed.snapshot, replayed.entries, whole=False), 0
        self._open(replayed.chain, max(sequences.values()))
        self._marks.set(replayed.mark)
        needed_from = sequences[replayed.purge_before] if replayed.purge_before > 1 else 0
        return Loaded(name, replayed.snapshot, replayed.entries), needed_from

    def _open(self, chain: Chain, sequence: int) -> None:
        log = self._logs.setdefault(chain.log, _Log(chain))
        log.chain, log.sequence = chain, sequence

    def _chain_past_damage(self, chain: Chain) -> Chain:
        """A place in the log that is past all that was there, for a snapshot to begin at."""
        number = max(self._marks.number(chain.log), chain.number) + JUMP
        return Chain(chain.log, self._keys, number=number, generation=chain.generation)

    # ---- writing

    async def append(self, name: str, plaintext: bytes, *, whole: bool = False, marked: bool = False) -> None:
        """Returns once the entry is stored, however long that takes; `Conflict` where the log went on elsewhere.

        `whole`: the entry takes the place of all that was before. `marked`: that it is there is written down beside
        the storage key too, before this returns.
        """
        if whole:
            await self.take_snapshot(name, plaintext)
            return
        async with self._to_write(name) as log:
            raw = log.chain.seal(plaintext, self._random)
            await self._offer(log, raw)
            log.chain.advance(raw)
            self._marks.reached(name, log.chain.number)
            if marked or log.chain.number == 1:
                await self._save()

    async def take_snapshot(self, name: str, plaintext: bytes) -> None:
        """Returns once it is stored and what was before is gone; likewise. Entries may be stored between its parts."""
        async with self._to_write(name) as log:
            snapshot = Snapshot(log.chain, plaintext)
            first = await self._store_part(log, snapshot)
        while not snapshot.complete:
            async with self._turn(log):
                await self._store_part(log, snapshot)
        self._marks.set(snapshot.mark)
        await self._save()
        await self._patiently(lambda: self._store.purge(name, first))

    async def end(self, name: str) -> None:
        """The log is gone. One of the same name that begins meanwhile waits until it is."""
        log = self._logs.setdefault(name, self._begun(name))
        async with self._turn(log):
            self._marks.remove(name)
            await self._save()
            await self._patiently(lambda: self._store.remove(name))
            log.chain, log.sequence = Chain(name, self._keys), 0
        if log.turns_over == log.turns_taken:
            self._logs.pop(name, None)

    def _begun(self, name: str) -> _Log:
        return _Log(Chain(name, self._keys))

    @asynccontextmanager
    async def _to_write(self, name: str) -> AsyncIterator[_Log]:
        """A log when its turn has come; a new one's mark comes first, so that the key stays where it can be read."""
        log = self._logs.setdefault(name, self._begun(name))
        async with self._turn(log):
            if name not in self._marks:
                self._marks.set(Mark(name, 0, log.chain.generation))
                await self._save()
            yield log

    async def _store_part(self, log: _Log, snapshot: Snapshot) -> int:
        raw = snapshot.seal_next(self._random)
        await self._offer(log, raw)
        snapshot.advance(raw)
        return log.sequence

    async def _offer(self, log: _Log, raw: bytes) -> None:
        if log.lost is not None:
            raise log.lost
        try:
            log.sequence = await self._patiently(lambda: self._store.append(log.chain.log, raw, log.sequence))
        except Conflict as conflict:
            log.lost = conflict
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

    async def _save(self) -> None:
        """Returns once the marks of now are written down. What is asked for within a moment is one writing, since the
        file has the marks of all logs."""
        self._to_save += 1
        mine = self._to_save
        await self._pause(TOGETHER + TOGETHER_EACH * len(self._marks))
        if self._saved < mine:
            await self._write_marks()

    async def _write_marks(self) -> None:
        while True:
            try:
                covered = self._to_save
                self._at_rest.save(self._keys, self._marks)
                self._saved = covered
                return
            except Refused as refused:  # a full disk, say: nothing is acknowledged until it takes them
                events.error("storage-key", sentence=refused.sentence, again_s=AGAIN_AFTER)
                await self._pause(AGAIN_AFTER)
