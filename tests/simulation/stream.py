"""A store of logs in memory, with what stores do to us. Like `mcsa.shell.stream.LogStream`, without waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from dataclasses import dataclass, field

from mcsa.durable_log import Conflict, Stored
from mcsa.shell.requests import BusUnavailable


@dataclass
class Copy:
    """What a store held at some time."""

    logs: dict[str, list[Stored]] = field(default_factory=dict)
    sequence: int = 0


class MemoryStream:
    """The same results and the same errors as `LogStream`'s methods of these names.

    `up`: where it is False, it can't be reached. `full`: it takes no more. `fail_next`: what becomes of the next
    append. "request": it is lost; "answer": it is stored, and nobody says so. The appender gets
    `BusUnavailable("timeout")` in either case, as from a `LogStream` whose patience has ended.
    """

    def __init__(self) -> None:
        self.up = True
        self.full = False
        self.fail_next: str | None = None
        self._now = Copy()

    def append(self, log: str, raw: bytes, expected: int) -> int:
        """See `LogStream.append`: the same record again, at the same place, is the same one."""
        self._check_up()
        if self.full:
            raise BusUnavailable("store", "JetStream refuses: maximum bytes exceeded")
        failure, self.fail_next = self.fail_next, None
        if failure == "request":
            raise BusUnavailable("timeout", "The request was lost.")
        records = self._now.logs.get(log, [])
        ends_at = records[-1].sequence if records else 0
        if ends_at != expected:
            following = self.following(log, expected)
            if following is None or following.raw != raw:
                raise Conflict(log, expected, ends_at)
            return following.sequence
        self._now.sequence += 1
        self._now.logs.setdefault(log, []).append(Stored(self._now.sequence, bytes(raw)))
        if failure == "answer":
            raise BusUnavailable("timeout", "The answer was lost.")
        return self._now.sequence

    def read(self, log: str, after: int = 0) -> Iterator[Stored]:
        """See `LogStream.read`."""
        while (stored := self.following(log, after)) is not None:
            yield stored
            after = stored.sequence

    def following(self, log: str, after: int) -> Stored | None:
        """See `LogStream.following`."""
        self._check_up()
        return next((stored for stored in self._now.logs.get(log, []) if stored.sequence > after), None)

    def last(self, log: str) -> Stored | None:
        """See `LogStream.last`."""
        self._check_up()
        records = self._now.logs.get(log)
        return records[-1] if records else None

    def purge(self, log: str, before: int) -> None:
        """See `LogStream.purge`."""
        self._check_up()
        self._keep(log, [stored for stored in self._now.logs.get(log, []) if stored.sequence >= before])

    def remove(self, log: str) -> None:
        """See `LogStream.remove`."""
        self._check_up()
        self._now.logs.pop(log, None)

    def logs(self) -> list[str]:
        """See `LogStream.logs`."""
        self._check_up()
        return sorted(self._now.logs)

    # ---- what stores do to us

    def copy(self) -> Copy:
        """A backup."""
        return deepcopy(self._now)

    def restore(self, copy: Copy) -> None:
        """The backup is what there is; sequences are given again."""
        self._now = deepcopy(copy)

    def cut(self, log: str, records: int) -> None:
        """A log loses so many records at its end."""
        kept = self._now.logs.get(log, [])
        self._keep(log, kept[: max(0, len(kept) - records)])

    def change(self, log: str, record: int) -> None:
        """One bit of a record is another."""
        at = self._now.logs[log][record]
        raw = bytearray(at.raw)
        raw[len(raw) // 2] ^= 1
        self._now.logs[log][record] = Stored(at.sequence, bytes(raw))

    def swap(self, one: str, other: str) -> None:
        """Two logs change places."""
        self._now.logs[one], self._now.logs[other] = self._now.logs[other], self._now.logs[one]

    def graft(self, log: str, other: MemoryStream, others_log: str) -> None:
        """The last record of another store's log comes at the end of this one."""
        self._now.sequence += 1
        self._now.logs[log].append(Stored(self._now.sequence, other._now.logs[others_log][-1].raw))

    def _keep(self, log: str, records: list[Stored]) -> None:
        if records:
            self._now.logs[log] = records
        else:
            self._now.logs.pop(log, None)

    def _check_up(self) -> None:
        if not self.up:
            raise BusUnavailable("down", "The store can't be reached.")


class WaitingStream:
    """The same with methods to be awaited, as `LogStream` has them; they never wait."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream

    async def append(self, log: str, raw: bytes, expected: int) -> int:
        return self._stream.append(log, raw, expected)

    async def read(self, log: str, after: int = 0) -> AsyncIterator[Stored]:
        for stored in self._stream.read(log, after):
            yield stored

    async def last(self, log: str) -> Stored | None:
        return self._stream.last(log)

    async def purge(self, log: str, before: int) -> None:
        self._stream.purge(log, before)

    async def remove(self, log: str) -> None:
        self._stream.remove(log)

    async def logs(self) -> list[str]:
        return self._stream.logs()
