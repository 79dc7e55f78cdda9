"""What waits for the disk. Sans-I/O.

A decision is a record in a log, and what follows from it: keys, rosters, answers. What follows leaves once the record
is acknowledged (design, section 6, "State and replicas"), no earlier, so that a crash at any moment loses nothing that
anybody was told. Each log has one record under way at most; what is decided meanwhile shares the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from mcsa.durable_log.record import MAX_RECORD
from mcsa.v1.authorizer_log_pb2 import ConferenceRecord
from services.authorizer.events import Append

MAX_ENTRY = MAX_RECORD - 1_024  # bytes of a record before it is sealed

Then = Callable[[float], Iterable[Any]]
"""Called once, with the time, when the record is stored; gives effects."""


@dataclass(slots=True)
class _Waiting:
    record: Message
    then: list[Then]


@dataclass(slots=True)
class _Log:
    under_way: list[Then]
    next: deque[_Waiting] = field(default_factory=deque)


class Journal:
    """The logs that have something under way."""

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}

    def busy(self, log: str) -> bool:
        """A record of this log is under way."""
        return log in self._logs

    def commit(self, log: str, record: Message, then: Then, *, whole: bool = False) -> list[Any]:
        """Has a record stored. While another one is under way it waits, and is merged with others that wait, as far as
        they fit into one: entries of a log for which that makes no sense are to be committed only where it isn't
        `busy`. `whole`: it takes the place of all that was before; likewise."""
        waiting = self._logs.get(log)
        if waiting is None:
            self._logs[log] = _Log([then])
            return [_append(log, record, whole=whole)]
        assert not whole
        last = waiting.next[-1] if waiting.next else None
        if last is not None and last.record.ByteSize() + record.ByteSize() <= MAX_ENTRY:
            last.record.MergeFrom(record)
            last.then.append(then)
        else:
            waiting.next.append(_Waiting(record, [then]))
        return []

    def appended(self, log: str, now: float) -> list[Any]:
        """The record under way is stored: what follows from it, and the next one on its way."""
        done = self._logs.pop(log, None)
        if done is None:  # given up meanwhile
            return []
        effects: list[Any] = []
        if done.next:
            following = done.next.popleft()
            self._logs[log] = _Log(following.then, done.next)
            effects.append(_append(log, following.record))
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


def _append(log: str, record: Message, *, whole: bool = False) -> Append:
    # what a group decides, its members' beacons tell of; what a conference does, nobody's
    return Append(log, record.SerializeToString(), whole, marked=isinstance(record, ConferenceRecord))
