"""Groups that went on elsewhere, and the logs that are being read again. Sans-I/O.

Who was overtaken by another process stands by: it takes a group up again when somebody asks for it, but not before the
other had its time. Two that took turns at each question would replace the keys each time.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from mcsa.v1.authorizer_pb2 import Beacon
from services.authorizer.conference import conference_log, group_log
from services.authorizer.events import Load

STAND_BY = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class _Group:
    conference_id: bytes
    said: Beacon
    until: float


class GivenUp:
    """See the module."""

    def __init__(self) -> None:
        self._groups: dict[bytes, _Group] = {}
        self._asked: set[bytes] = set()
        self._loading: set[str] = set()

    def __contains__(self, group_id: bytes) -> bool:
        """The group was given up; that somebody asked is remembered."""
        if group_id in self._groups:
            self._asked.add(group_id)
        return group_id in self._groups

    def has_conference(self, conference_id: bytes) -> bool:
        """Likewise, for a conference's groups."""
        groups = self.of(conference_id)
        self._asked.update(groups)
        return bool(groups)

    def put(self, group_id: bytes, conference_id: bytes, said: Beacon, until: float) -> None:
        """From now on, with what was told of it last; it isn't taken up again before that time."""
        self._groups[group_id] = _Group(conference_id, said, until)

    def take(self, group_id: bytes) -> Beacon:
        """It is served again: what was told of it last; nothing, where it was never given up."""
        group = self._groups.pop(group_id, None)
        return Beacon() if group is None else group.said

    def of(self, conference_id: bytes) -> list[bytes]:
        """Groups of a conference."""
        return [group_id for group_id, group in self._groups.items() if group.conference_id == conference_id]

    # ---- reading again

    def wanted(self, conferences: Container[bytes], now: float) -> list[Load]:
        """What is to be read, of what was asked for: the groups' logs, and those of conferences that aren't there."""
        asked, self._asked = self._asked, set()
        groups = {group_id: self._groups[group_id] for group_id in sorted(asked) if group_id in self._groups}
        logs = [
            group_log(group_id) if group.conference_id in conferences else conference_log(group.conference_id)
            for group_id, group in groups.items()
            if now >= group.until
        ]
        return self.load(*logs)

    def load(self, *logs: str) -> list[Load]:
        """Has logs read. One reading of each at a time: what is decided has to rest on the last one."""
        fresh = [log for log in dict.fromkeys(logs) if log not in self._loading]
        self._loading.update(fresh)
        return [Load(log) for log in fresh]

    def loaded(self, logs: Iterable[str]) -> None:
        """They were read."""
        self._loading.difference_update(logs)
