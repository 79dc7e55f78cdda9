"""Sender IDs of one group: each is given once under a key, whatever becomes of the log.

A sender ID and a counter make the nonce of a packet: given twice under one key, it would break AES-GCM.
"""

from __future__ import annotations

SKIPPED = 1_024  # at most that a new process leaves out: the log may have lost who got them


class SenderIds:
    """Those of `range`, in their order."""

    def __init__(self, ids: range) -> None:
        self._range = ids
        self.next = ids.start

    def give(self, count: int = 1) -> int:
        """The first of so many that nobody has had."""
        first = self.next
        self.next += count
        return first

    def lacks(self, count: int) -> bool:
        """There are fewer left."""
        return self.next + count > self._range.stop

    def skip(self) -> None:
        """A distance to those that another process may have given. A subgroup has few, for many processes."""
        self.next += self._skipped

    def begin_anew(self, told: int) -> None:
        """All keys are replaced; `told` is the next one as it was told once. Only where they have run out they begin
        again: no key is left that was used with one."""
        self.next = max(self.next, told)
        self.skip()
        if self.next > self._range.stop - self._skipped:
            self.next = self._range.start

    @property
    def _skipped(self) -> int:
        return min(SKIPPED, len(self._range) // 64)
