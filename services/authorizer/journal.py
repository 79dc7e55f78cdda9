"""What waits for the disk. Sans-I/O.

A decision is a record in a log, and what follows from it: keys, rosters, answers. What follows leaves once the record
is acknowledged (design, section 6, "State and replicas"), no earlier, so that a crash at any moment loses nothing that
anybody was told. Each log has one record under way at most; what is decided meanwhile shares the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from services.authorizer.events import Append

Then = Callable[[float], Iterable[Any]]
"""Called once, with the time, when the record is stored; gives effects."""


@dataclass(slots=True)
class _Log:
    under_way: list[Then]
    next_record: Message | None = None
    next_then: list[Then] = field(default_factory=list)


class Journal:
    """The logs that have something under way."""

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}

    def busy(self, log: str) -> bool:
        """A record of this log is under way."""
        return log in self._logs

    def commit(self, log: str, record: Message, then: Then, *, whole: bool = False) -> list[Any]:
        """Has a record stored. While another one is under way it waits, and is merged with others that wait: entries
        of a log for which that makes no sense are to be committed only where it isn't `busy`. `whole`: it takes the
        place of all that was before; likewise."""
        waiting = self._logs.get(log)
        if waiting is None:
            self._logs[log] = _Log([then])
            return [Append(log, record.SerializeToString(), whole)]
        assert not whole
        if waiting.next_record is None:
            waiting.next_record = record
        else:
            waiting.next_record.MergeFrom(record)
        waiting.next_then.append(then)
        return []

    def appended(self, log: str, now: float) -> list[Any]:
        """The record under way is stored: what follows from it, and the next one on its way."""
        done = self._logs.pop(log, None)
        if done is None:  # given up meanwhile
            return []
        effects: list[Any] = []
        if done.next_record is not None:
            self._logs[log] = _Log(done.next_then)
            effects.append(Append(log, done.next_record.SerializeToString()))
        for then in done.under_way:
            effects += then(now)
        return effects

    def give_up(self, log: str) -> None:
        """Nothing that waits for this log will follow."""
        self._logs.pop(log, None)


class Gate:
    """Several records that decide one thing: what follows when the last of them is stored."""

    def __init__(self, then: Then) -> None:
        self._then = then
        self._open = 1

    def wait(self) -> Then:
        """For one more record."""
        self._open += 1
        return self._passed

    def close(self, now: float) -> list[Any]:
        """There are no more of them."""
        return list(self._passed(now))

    def _passed(self, now: float) -> Iterable[Any]:
        self._open -= 1
        return self._then(now) if self._open == 0 else []
