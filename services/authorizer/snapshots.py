"""When a log is due for a snapshot: by its length, and by time, so that the storage key can move on. Sans-I/O."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from services.authorizer.agenda import Agenda

ENTRIES = 1_000  # after so many
BYTES = 8 << 20  # or so much
EACH = 3_600.0  # seconds; what is older than two of these can't be opened with the disks of today


@dataclass(slots=True)
class _Since:
    entries: int = 0
    size: int = 0


class SnapshotTimes:
    """Of all logs."""

    def __init__(self) -> None:
        self._since: dict[str, _Since] = {}
        self._agenda: Agenda[str] = Agenda()

    def begin(self, log: str, now: float) -> None:
        """The log is new, or has a snapshot now."""
        self._since[log] = _Since()
        self._agenda.set(log, now + EACH * (1 + crc32(log.encode()) / 2**32) / 2)  # not all of them at once

    def end(self, log: str) -> None:
        """There is no such log any more."""
        self._since.pop(log, None)
        self._agenda.remove(log)

    def appended(self, log: str, size: int, now: float) -> None:
        """An entry of that size, in bytes, is on its way."""
        if log not in self._since:
            self.begin(log, now)
        since = self._since[log]
        since.entries, since.size = since.entries + 1, since.size + size
        if since.entries >= ENTRIES or since.size >= BYTES:
            self._agenda.set(log, now)

    def due(self, now: float) -> list[str]:
        """Logs that want one now: each has to `begin`, `postpone` or `end`."""
        return self._agenda.due(now)

    def postpone(self, log: str, now: float) -> None:
        """It can't be taken now; in a second."""
        self._agenda.set(log, now + 1.0)

    def next_at(self) -> float | None:
        """When `due` has something."""
        return self._agenda.next_at()
