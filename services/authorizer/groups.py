"""All conferences and groups of an Authorizer: created, kept in their logs, flushed, ended. Sans-I/O.

What they are, how they change, how they begin, what is read of them: the files of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcsa.endpoint import Count
from mcsa.errors import Refused
from mcsa.v1.authorizer_log_pb2 import ConferenceRecord, GroupRecord
from mcsa.v1.types_pb2 import GroupDescription
from services.authorizer.conference import LOG_PREFIX, Conference, conference_log, group_log
from services.authorizer.events import EndLog, TakeSnapshot
from services.authorizer.group import Group
from services.authorizer.groups_read import GroupsRead, id_of
from services.authorizer.groups_served import ids_of
from services.authorizer.journal import Gate, Then

EMPTY_FOR = 3_600.0  # seconds without a member after which a conference is forgotten


class Groups(GroupsRead):
    """See the module."""

    def move(self, conference: Conference, addresses: Sequence[str], then: Then, now: float) -> list[Any]:
        """Its groups get other addresses: stored first, then each group begins anew there, and its members register
        again. Calls `then` once all of it is stored. `Refused` where there are members that couldn't follow."""
        groups = self.groups_of(conference)
        if conference.subgroups or any("/authorizer/" in member.host for group in groups for member in group.members):
            raise Refused("not-allowed", "one-domain-one-group", "groups with subgroups or subordinates don't move")
        moved = [
            GroupDescription(group_id=group.group_id, address=address)
            for group, address in zip(conference.groups, addresses, strict=True)
        ]
        conference.moving_to = list(addresses)

        def stored(later: float) -> list[Any]:
            conference.move(moved)
            conference.moving_to = []
            gate = Gate(then)
            effects = []
            for group in groups:
                if self.has(group):
                    effects += self.begin_anew(group, later, then=[gate.wait()])
            return effects + gate.close(later)

        return self.commit(conference_log(conference.id), ConferenceRecord(moved=moved), stored, now)

    # ---- time

    def woken(self, now: float) -> list[Any]:
        """What is due."""
        effects: list[Any] = []
        for group_id in self._agenda.due(now):
            group = self.groups.get(group_id)
            if group is not None:
                effects += self._look_after(group, now)
        effects += self._beacons.woken(self.groups, now)
        for log in self._snapshots.due(now):
            effects += self._take_snapshot(log, now)
        return effects

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        times = (self._agenda.next_at(), self._beacons.wake_at(), self._snapshots.next_at())
        return min((at for at in times if at is not None), default=None)

    def _look_after(self, group: Group, now: float) -> list[Any]:
        effects: list[Any] = []
        if now >= group.sweep_at:
            ended = group.sweep(now)
            effects += [Count("leases.ended", ended)] if ended else []
            effects += self._forget(self.conferences[group.conference_id], now)
        return effects + self.flush_if_due(group, now)

    # ---- snapshots

    def _take_snapshot(self, log: str, now: float) -> list[Any]:
        if self.journal.busy(log):
            self._snapshots.postpone(log, now)
            return []
        record = self._record_of(log)
        if record is None:
            self._snapshots.end(log)
            return []
        self._snapshots.begin(log, now)
        return [TakeSnapshot(log, record.SerializeToString())]

    def _record_of(self, log: str) -> ConferenceRecord | GroupRecord | None:
        id_ = id_of(log)
        if log.startswith(LOG_PREFIX):
            return self.conferences[id_].record() if id_ in self.conferences else None
        return GroupRecord(snapshot=self.groups[id_].snapshot()) if id_ in self.groups else None

    # ---- ending

    def _forget(self, conference: Conference, now: float) -> list[Any]:
        """A conference that nobody has been in for long, or whose end is past, has ended: its addresses are free."""
        ids = ids_of(conference)
        groups = [self.groups[id_] for id_ in ids if id_ in self.groups]
        served = len(groups) == len(ids)
        if not served or any(len(group.members) or group.batch.joiners for group in groups):
            self._empty_since.pop(conference.id, None)
            return []
        since = self._empty_since.setdefault(conference.id, now)
        if now < since + EMPTY_FOR:
            return []
        return [*self._end(conference), Count("conferences.forgotten")]

    def _end(self, conference: Conference) -> list[Any]:
        effects: list[Any] = self._end_log(conference_log(conference.id))  # the groups' logs are nobody's from here on
        for group_id in ids_of(conference):
            group = self.groups.pop(group_id, None)
            self._stars.pop(group_id, None)
            self._agenda.remove(group_id)
            effects += self._end_log(group_log(group_id))
            if group is not None:
                effects += self._beacons.end(group)
        del self.conferences[conference.id]
        self._empty_since.pop(conference.id, None)
        return effects

    def _end_log(self, log: str) -> list[Any]:
        self.journal.give_up(log)
        self._snapshots.end(log)
        return [EndLog(log)]
