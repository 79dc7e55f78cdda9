"""Writes the record of a conference while it goes on, at one participant."""

from __future__ import annotations

from collections.abc import Sequence

from mcsa.errors import Rejected
from mcsa.record.chain import (
    COUNTERSIGNATURE,
    COUNTERSIGNED_WITHIN,
    DESCRIPTION,
    MESSAGE,
    VERSION,
    head_of,
    parse_record,
)
from mcsa.v1.authorizer_pb2 import Countersignature
from mcsa.v1.conference_pb2 import Fragment, Record, RecordEntry
from mcsa.v1.types_pb2 import SignedStatement


class RecordWriter:
    """A record in the making: description first, then every control message in the order of its arrival, own ones
    too, then the Authorizer's countersignature, after which nothing more is written.

    What is handed in was verified before: the writer only chains. Calls in another order are a bug and raise
    `ValueError`.
    """

    def __init__(self, conference_id: bytes, user: str) -> None:
        self.conference_id = conference_id
        self.user = user
        self._entries: list[bytes] = []
        self._time_ms = 0
        self._finished = False

    @classmethod
    def resume(cls, raw: bytes) -> RecordWriter:
        """The writer of a record that an earlier process wrote; `Rejected` (see `parse_record`) where it is none."""
        chained = parse_record(raw)
        writer = cls(chained.conference_id, chained.user)
        writer._entries = list(chained.raw_entries)
        if chained.entries:
            writer._time_ms = chained.entries[-1].time_ms
            writer._finished = chained.entries[-1].kind == COUNTERSIGNATURE
        return writer

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def head(self) -> bytes:
        """SHA-256 of the last entry, 32 bytes; zeros where there is none."""
        return head_of(self._entries)

    @property
    def finished(self) -> bool:
        """Whether the record is countersigned."""
        return self._finished

    def description(self, statement: SignedStatement, now: float) -> None:
        """The Coordinator's signed ConferenceDescription; the first entry."""
        if self._entries:
            raise ValueError("the description is the first entry")
        self._append(RecordEntry(kind=DESCRIPTION, description=statement), now)

    def message(self, fragments: Sequence[Fragment], now: float) -> None:
        """A control message as it came, all its fragments in order; or one part of a Status.

        A Status is written where it is the reason why a stream begins or goes on later than at its next message:
        without it the record has a gap.
        """
        if not self._entries or self._finished:
            raise ValueError("a message stands between description and countersignature")
        self._append(RecordEntry(kind=MESSAGE, fragments=fragments), now)

    def countersigned(self, statement: SignedStatement, now: float) -> None:
        """The Authorizer's Countersignature over `head`; its time becomes the entry's.

        Raises `Rejected`, and nothing is written: "countersignature" (over something else: an entry came while it was
        asked for, so ask again), "countersignature-time" (more than 60 s from the last entry, or from `now`: where the
        Authorizer could not be reached for longer, write a Status of one's own as `message`, and ask again). Its
        signature is not checked here.
        """
        if not self._entries or self._finished:
            raise ValueError("a record is countersigned once, at its end")
        said = Countersignature.FromString(statement.statement)
        if said.head != self.head or said.conference_id != self.conference_id:
            raise Rejected("countersignature", "it is not over the head of this record")
        for moment_ms in (self._time_ms, round(now * 1000)):
            if abs(said.time_ms - moment_ms) > COUNTERSIGNED_WITHIN * 1000:
                raise Rejected("countersignature-time", f"more than {COUNTERSIGNED_WITHIN:.0f} s away")
        self._append(RecordEntry(kind=COUNTERSIGNATURE, countersignature=statement), said.time_ms / 1000)
        self._finished = True

    def serialised(self) -> bytes:
        """The record as it stands: a `Record`, for a file."""
        record = Record(version=VERSION, conference_id=self.conference_id, user=self.user, entries=self._entries)
        return record.SerializeToString(deterministic=True)

    def _append(self, entry: RecordEntry, now: float) -> None:
        entry.previous = self.head
        entry.number = len(self._entries) + 1
        entry.time_ms = round(now * 1000)
        if entry.kind != COUNTERSIGNATURE:  # whose time is the Authorizer's; ours may have been set back
            entry.time_ms = max(entry.time_ms, self._time_ms)
        self._time_ms = entry.time_ms
        self._entries.append(entry.SerializeToString(deterministic=True))
