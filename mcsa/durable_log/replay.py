"""Reading a log from its beginning, or from its last snapshot."""

from __future__ import annotations

from dataclasses import dataclass, field

from mcsa.durable_log.chain import Chain, Opened
from mcsa.durable_log.marks import Mark
from mcsa.durable_log.ratchet import StorageKeys
from mcsa.durable_log.record import parse_record
from mcsa.errors import Rejected
from mcsa.v1.log_pb2 import LogRecord, SnapshotPart


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a log says."""

    snapshot: bytes | None  # the last complete one
    entries: tuple[bytes, ...]  # after it
    chain: Chain  # at the log's end
    mark: Mark  # for the key file
    purge_before: int  # this record is the first that is needed; 1 where all are


@dataclass(slots=True)
class _Parts:
    """A snapshot that is being read."""

    first: int
    generation: int
    count: int
    entries_before: int
    plaintexts: list[bytes] = field(default_factory=list)

    def expects(self, part: SnapshotPart) -> bool:
        """This part is the next one."""
        return (part.first, part.index, part.count) == (self.first, len(self.plaintexts), self.count)


class Replay:
    """Takes the records of one log as they are stored, and gives what they amount to.

    Records that an erased key sealed may come first: a purge that was cut short left them. The log then has to go on
    with a snapshot; so it has where records were purged under the reader's hands.
    """

    def __init__(self, log: str, keys: StorageKeys) -> None:
        self._log = log
        self._keys = keys
        self._chain: Chain | None = None
        self._fed = False
        self._begins_late = False
        self._needed_from = (1, keys.next)  # number and generation
        self._snapshot: bytes | None = None
        self._entries: list[bytes] = []
        self._parts: _Parts | None = None

    def feed(self, raw: bytes) -> int:
        """The next record; its number. `Rejected("log")` where it isn't one that can follow; what was fed before still
        counts."""
        record = parse_record(raw)
        self._fed = True
        if self._chain is None and record.generation < self._keys.generation:
            return record.number
        chain = self._chain or Chain(self._log, self._keys, generation=self._keys.generation)
        late = _begins_snapshot(record) and record.number > chain.number + 1
        if late:
            chain = self._chain_before(record, chain.generation)
        opened = chain.open(raw)
        self._chain = chain
        if late:
            self._begins_late = True
            self._snapshot, self._entries, self._parts = None, [], None
        self._take(opened)
        return opened.number

    def finish(self) -> Replayed:
        """All that was fed; `Rejected("log")` where that can't be all of it. No records are a new log."""
        if (self._begins_late and self._snapshot is None) or (self._fed and self._chain is None):
            raise Rejected("log", f"{self._log} begins with nothing that can be read")
        return self.so_far()

    def so_far(self) -> Replayed:
        """What could be read, be it all or not."""
        chain = self._chain or Chain(self._log, self._keys)
        first, generation = self._needed_from
        return Replayed(
            self._snapshot, tuple(self._entries), chain, Mark(self._log, chain.number, generation), purge_before=first
        )

    def _chain_before(self, record: LogRecord, generation: int) -> Chain:
        return Chain(self._log, self._keys, number=record.number - 1, head=record.previous, generation=generation)

    def _take(self, opened: Opened) -> None:
        if opened.number == 1:
            self._needed_from = (1, opened.generation)
        if opened.part is None:
            self._entries.append(opened.plaintext)
        else:
            self._take_part(opened, opened.part)

    def _take_part(self, opened: Opened, part: SnapshotPart) -> None:
        if part.index == 0:
            self._parts = _Parts(opened.number, opened.generation, part.count, len(self._entries))
        parts = self._parts
        if parts is None or not parts.expects(part):
            raise Rejected("log", f"record {opened.number} is no part of the snapshot before it")
        parts.plaintexts.append(opened.plaintext)
        if len(parts.plaintexts) == parts.count:
            self._snapshot = b"".join(parts.plaintexts)
            self._entries = self._entries[parts.entries_before :]
            self._needed_from = (parts.first, parts.generation)
            self._parts = None


def _begins_snapshot(record: LogRecord) -> bool:
    return record.HasField("snapshot") and record.snapshot.index == 0
