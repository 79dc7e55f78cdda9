"""The chain of one log: which record is the next."""

from __future__ import annotations

from dataclasses import dataclass

from mcsa.durable_log.ratchet import StorageKeys
from mcsa.durable_log.record import FIRST_PREVIOUS, check_log_name, head_of, open_record, parse_record, seal_record
from mcsa.errors import Rejected
from mcsa.keys import Random
from mcsa.v1.log_pb2 import LogRecord, SnapshotPart


@dataclass(frozen=True, slots=True)
class Opened:
    """A record that was the next one, and opened."""

    number: int
    generation: int
    plaintext: bytes
    part: SnapshotPart | None  # of a snapshot; None: an entry


class Chain:
    """Where a log ends. Sealing moves nothing: the store may refuse the record. `advance` does, once it is stored, and
    `open` does, where it is read.

    A new log, or from a place that is known: `number` and `head` of the last record, and the generation it is of.
    """

    def __init__(
        self,
        log: str,
        keys: StorageKeys,
        *,
        number: int = 0,
        head: bytes = FIRST_PREVIOUS,
        generation: int | None = None,
    ) -> None:
        self.log = check_log_name(log)
        self.keys = keys
        self.number = number
        self.head = head
        self.generation = keys.next if generation is None else generation

    def seal(self, plaintext: bytes, random: Random) -> bytes:
        """The next record, an entry. `ValueError` where it is too long (`MAX_RECORD`)."""
        generation = self.generation if self.number else self.keys.next  # the key may have moved on meanwhile
        return self._seal(plaintext, generation, None, random)

    def seal_part(
        self, plaintext: bytes | memoryview, generation: int, first: int | None, index: int, count: int, random: Random
    ) -> bytes:
        """The next record, part of a snapshot; see `Snapshot`. `first` is None for the first part."""
        part = SnapshotPart(first=self.number + 1 if first is None else first, index=index, count=count)
        return self._seal(plaintext, generation, part, random)

    def open(self, raw: bytes) -> Opened:
        """The next record's plaintext; the chain has then moved on.

        `Rejected("log")` where the bytes are not the next record of this log: altered, another log's, one that was
        here before (the store went back), one after a gap, one after another past. Nothing has changed then.
        """
        record = parse_record(raw)
        self._check_next(record)
        plaintext = open_record(self.log, record, self.keys)
        self._move(record, raw)
        part = record.snapshot if record.HasField("snapshot") else None
        return Opened(record.number, record.generation, plaintext, part)

    def advance(self, raw: bytes) -> None:
        """The record that was sealed last is stored."""
        record = parse_record(raw)
        try:
            self._check_next(record)
        except Rejected as rejected:
            raise ValueError(f"not what was sealed last: {rejected}") from None
        self._move(record, raw)

    def _seal(self, plaintext: bytes | memoryview, generation: int, part: SnapshotPart | None, random: Random) -> bytes:
        record = LogRecord(number=self.number + 1, previous=self.head, generation=generation, snapshot=part)
        return seal_record(self.log, record, plaintext, self.keys, random)

    def _check_next(self, record: LogRecord) -> None:
        if record.number <= self.number:
            raise Rejected("log", f"record {record.number} again, after {self.number}: rolled back")
        if record.number > self.number + 1:
            raise Rejected("log", f"record {record.number} after {self.number}: some are missing")
        if record.previous != self.head:
            raise Rejected("log", f"record {record.number} follows another past")
        begins = record.HasField("snapshot") and record.snapshot.index == 0
        if record.generation < self.generation or (record.generation > self.generation and not begins and self.number):
            raise Rejected("log", f"record {record.number} is of generation {record.generation}")

    def _move(self, record: LogRecord, raw: bytes) -> None:
        self.number, self.head, self.generation = record.number, head_of(raw), record.generation
