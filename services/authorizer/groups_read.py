"""What an Authorizer reads of its logs, at its start and where another process has written to them.

What becomes of a group's log, and what of the group then:

    a log that this process reads        -> restored; a fresh key and epoch, sender IDs skipped, members go on
    its end is missing or unreadable     -> an alarm; the group begins anew, members register again
    another process has written to it    -> this process gives the conference up: it doesn't know who was thrown out
                                            meanwhile; who asks for it makes it read the logs again
    a member shows our own later word    -> an alarm; the group begins anew (`core.py`)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from mcsa.errors import Rejected
from mcsa.v1 import authorizer_pb2 as wire
from mcsa.v1.authorizer_log_pb2 import ConferenceRecord, GroupRecord
from mcsa.v1.types_pb2 import GroupDescription
from services.authorizer import alarms
from services.authorizer.conference import LOG_PREFIX, Conference, conference_log, group_log
from services.authorizer.events import EndLog, Loaded
from services.authorizer.given_up import STAND_BY
from services.authorizer.group import Group
from services.authorizer.groups_made import GroupsMade
from services.authorizer.groups_served import ids_of


class GroupsRead(GroupsMade):
    """See the module."""

    def loaded(self, logs: list[Loaded], now: float, *, all_there_are: bool = False) -> list[Any]:
        """Logs as they were read. Where these are all there are, groups' logs without a conference's are removed."""
        by_name = {loaded.log: loaded for loaded in logs}
        self._given_up.loaded(by_name)
        effects: list[Any] = []
        for name in [name for name in by_name if name.startswith(LOG_PREFIX)]:
            effects += self._take_up_conference(by_name.pop(name), now, at_start=all_there_are)
        begin: list[Callable[[], list[Any]]] = []
        for conference in self.conferences.values():
            for description in conference.all_groups():
                log = group_log(description.group_id)
                if log in by_name or all_there_are:
                    missing = Loaded(log, None, (), whole=False)
                    begin.append(self._take_up_group(conference, description, by_name.pop(log, missing), now))
        for star in self._stars.values():
            star.settle(now)
        effects += [effect for take_over in begin for effect in take_over()]
        if all_there_are:
            self._beacons.recall(now)
            effects += [effect for orphan in by_name.values() for effect in _end_orphan(orphan)]
        return effects

    def _take_up_conference(self, loaded: Loaded, now: float, *, at_start: bool) -> list[Any]:
        conference = None
        try:
            conference = Conference.restored(ConferenceRecord.FromString(raw) for raw in _records(loaded))
        except DecodeError:
            loaded = Loaded(loaded.log, None, (), whole=False)
        effects: list[Any] = []
        if not loaded.whole:
            effects.append(alarms.conference_log_short(loaded.log))
        if conference is None:  # an empty one may be about to begin: elsewhere, where this process has long begun
            nothing = loaded.whole and not _records(loaded) and not at_start
            return effects if nothing else [*effects, EndLog(loaded.log)]
        self.conferences[conference.id] = conference
        self._snapshots.begin(loaded.log, now)
        if not loaded.whole:
            effects += self.journal.commit(loaded.log, conference.record(), lambda _: [], whole=True)
        # subgroups too that another process has added
        ids = [] if at_start else [id_ for id_ in ids_of(conference) if id_ not in self.groups]
        return effects + self._given_up.load(*map(group_log, ids))

    def _take_up_group(
        self, conference: Conference, description: GroupDescription, loaded: Loaded, now: float
    ) -> Callable[[], list[Any]]:
        """The group is as its log tells; what is called then takes it over."""
        setting = self._setting(conference, description)
        group, whole = None, loaded.whole
        try:
            group = Group.restored(setting, (GroupRecord.FromString(raw) for raw in _records(loaded)), now)
        except (DecodeError, Rejected):
            whole = False
        said = self._given_up.take(description.group_id)
        whole = whole and group is not None and not group.is_outlived_by(said)
        group = group or Group(setting, setting.gkm(), now)
        self._serve(group, now)
        self._put_into_star(conference, group)
        return partial(self._take_over, conference, group, loaded.log, whole, said, now)

    def _take_over(
        self, conference: Conference, group: Group, log: str, whole: bool, said: wire.Beacon, now: float
    ) -> list[Any]:
        if not whole:
            return [alarms.group_log_short(log), *self.begin_anew(group, now, after=said)]
        group.take_over(now)
        for subject in conference.banned:
            self.eject([group], subject, now)
        return self.flush_if_due(group, now)

    def fenced(self, log: str, now: float, *, elsewhere: bool) -> list[Any]:
        """A log isn't what it was thought to be: nothing that waits for it will follow, and what was thought is void.
        It is read again: at once, or where it goes on `elsewhere`, when this process was asked and has stood by."""
        self.journal.give_up(log)
        id_ = id_of(log)
        until = now + STAND_BY if elsewhere else now
        effects: list[Any] = [alarms.fenced(log)]
        for conference_id in [key for key in self._creating if id_ in (key, *ids_of(self.conferences[key]))]:
            self._give_up_creating(conference_id, until)
        if id_ in self.groups and not elsewhere:
            return [*effects, *self._give_up(self.groups[id_], until), *self._given_up.load(log)]
        conferences = self.conferences.values()
        conference = next((each for each in conferences if id_ in (each.id, *ids_of(each))), None)
        if conference is not None:
            effects += self._give_up_conference(conference, until)
            log = conference_log(conference.id)
        return effects if elsewhere else effects + self._given_up.load(log)

    def wanted(self, now: float) -> list[Any]:
        """Logs to be read again, since somebody has just asked for groups that were given up."""
        return list(self._given_up.wanted(self.conferences, now))


def _records(loaded: Loaded) -> list[bytes]:
    return [*([] if loaded.snapshot is None else [loaded.snapshot]), *loaded.entries]


def id_of(log: str) -> bytes:
    """The conference's or the group's whose log it is."""
    return bytes.fromhex(log.rpartition("-")[2])


def _end_orphan(loaded: Loaded) -> list[Any]:
    """A group's log without its conference's. Where the conference was about to begin it has one record."""
    effects: list[Any] = [EndLog(loaded.log)]
    if loaded.whole and len(_records(loaded)) <= 1:
        return effects
    return [alarms.conference_log_gone(loaded.log), *effects]
