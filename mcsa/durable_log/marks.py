"""What is remembered of each log outside of it, beside the storage key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mcsa.durable_log.chain import Chain
from mcsa.errors import Rejected


@dataclass(frozen=True, slots=True)
class Mark:
    """A log has at least `number` records, and is read with the storage key of `generation`."""

    log: str
    number: int
    generation: int


class Marks:
    """The marks of all logs."""

    def __init__(self, marks: Iterable[Mark] = ()) -> None:
        self._marks = {mark.log: mark for mark in marks}

    def __iter__(self) -> Iterator[Mark]:
        return iter(self._marks.values())

    def __len__(self) -> int:
        return len(self._marks)

    def __contains__(self, log: str) -> bool:
        return log in self._marks

    def set(self, mark: Mark) -> None:
        """From now on this one, for its log."""
        self._marks[mark.log] = mark

    def reached(self, log: str, number: int) -> None:
        """The log has so many records by now; what it is read with stays."""
        self._marks[log] = replace(self._marks[log], number=number)

    def number(self, log: str) -> int:
        """How many records the log has at least."""
        mark = self._marks.get(log)
        return 0 if mark is None else mark.number

    def remove(self, log: str) -> None:
        """The log has ended."""
        self._marks.pop(log, None)

    def generation(self, otherwise: int) -> int:
        """The earliest that some log still needs; `otherwise` where there are no logs."""
        return min((mark.generation for mark in self), default=otherwise)

    def behind(self, generation: int) -> list[str]:
        """The logs that need an earlier generation: a snapshot of each, and the key can move on."""
        return [mark.log for mark in self if mark.generation < generation]

    def check(self, chain: Chain) -> None:
        """`Rejected("log")` where a log that was read ends before its mark: it was shortened, or is an older copy."""
        if chain.number < self.number(chain.log):
            raise Rejected(
                "log", f"{chain.log} ends at {chain.number} and was at {self.number(chain.log)}: rolled back"
            )
