"""When a log is due for a snapshot: by its length, and by time, so that the storage key can move on. Sans-I/O."""

from __future__ import annotations

from dataclasses import dataclass

ENTRIES = 1_000  # after so many
BYTES = 8 << 20  # or so much
EACH = 3_600.0  # seconds; what is older than two of these can't be opened with the disks of today


@dataclass(slots=True)
class _Since:
    due_at: float
    entries: int = 0
    size: int = 0


class SnapshotTimes:
    """Of all logs."""

    def __init__(self) -> None:
        self._since: dict[str, _Since] = {}

    def begin(self, log: str, now: float) -> None:
        """The log is new, or has a snapshot now."""
        self._since[log] = _Since(now + EACH)

    def end(self, log: str) -> None:
        """There is no such log any more."""
        self._since.pop(log, None)

    def appended(self, log: str, size: int, now: float) -> None:
        """An entry of that size, in bytes, is on its way."""
        since = self._since.setdefault(log, _Since(now + EACH))
        since.entries, since.size = since.entries + 1, since.size + size
        if since.entries >= ENTRIES or since.size >= BYTES:
            since.due_at = now

    def due(self, now: float) -> list[str]:
        """Logs that want one now."""
        return [log for log, since in self._since.items() if now >= since.due_at]

    def postpone(self, log: str, now: float) -> None:
        """It can't be taken now; in a second."""
        self._since[log].due_at = now + 1.0

    def next_at(self) -> float | None:
        """When `due` has something."""
        return min((since.due_at for since in self._since.values()), default=None)
