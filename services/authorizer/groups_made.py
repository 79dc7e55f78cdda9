"""How an Authorizer's conferences, groups and subgroups begin, and which subgroup a host is in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mcsa.errors import Refused
from mcsa.gkm import scheme_named
from mcsa.v1.authorizer_log_pb2 import ConferenceRecord, GroupRecord, Subgroup
from mcsa.v1.types_pb2 import GroupDescription
from services.authorizer.addresses import speaks_from
from services.authorizer.conference import Conference, conference_log, group_log
from services.authorizer.group import Group
from services.authorizer.group_state import AGENT
from services.authorizer.groups_flushed import GroupsFlushed
from services.authorizer.journal import Gate, Then
from services.authorizer.setting import Setting
from services.authorizer.subgroups import Star, sender_ids_of


class GroupsMade(GroupsFlushed):
    """See the module."""

    def create(self, conference: Conference, now: float) -> list[Any]:
        """A new conference. Its groups' logs come first: one without its conference's is nobody's."""
        self.conferences[conference.id] = conference
        self._creating[conference.id] = []
        groups = [self._new_group(conference, description, now) for description in conference.groups]
        self._beginning.update({group.id: group for group in groups})

        def all_stored(later: float) -> list[Any]:
            return self.journal.commit(
                conference_log(conference.id), conference.record(), lambda at: self._created(conference.id, groups, at)
            )

        gate = Gate(all_stored)
        effects: list[Any] = []
        for group in groups:
            record = GroupRecord(snapshot=group.snapshot())
            effects += self.journal.commit(group_log(group.id), record, gate.wait())
        return effects + gate.close(now)

    def once_created(self, conference_id: bytes, then: Then, now: float) -> list[Any]:
        """Calls `then` once the conference's records are stored."""
        if conference_id in self._creating:
            self._creating[conference_id].append(then)
            return []
        return list(then(now))

    def _created(self, conference_id: bytes, groups: list[Group], now: float) -> list[Any]:
        self._snapshots.begin(conference_log(conference_id), now)
        effects: list[Any] = []
        for group in groups:
            self._serve(group, now)
            self._put_into_star(self.conferences[conference_id], group)
            effects += self._beacons.begin(group, now)
        for then in self._creating.pop(conference_id):
            effects += then(now)
        return effects

    def _new_group(self, conference: Conference, description: GroupDescription, now: float) -> Group:
        setting = self._setting(conference, description)
        return Group(setting, setting.gkm(), now)

    def _setting(self, conference: Conference, description: GroupDescription) -> Setting:
        backbone, index = conference.place_of(description.group_id)
        setting = Setting(
            description,
            conference.id,
            conference.signed,
            self._credentials,
            speaks_from(self._networks, description.address),
            self._random,
            conference.access_list,
            self._distributors,
        )
        if not scheme_named(description.policy.gkm).subgroups:
            return setting
        return replace(setting, backbone=backbone, sender_ids=sender_ids_of(index))

    def _put_into_star(self, conference: Conference, group: Group) -> None:
        """Where the group's protocol has subgroups."""
        if scheme_named(group.policy.gkm).subgroups:
            backbone, _ = conference.place_of(group.id)
            backbone = backbone or group.description
            self._stars.setdefault(backbone.group_id, Star(backbone)).put(group)

    def place(self, group_id: bytes, host: str, now: float) -> tuple[Group, list[Any]]:
        """The subgroup for a host that asks for this group, and what comes of a new one that has to be made for it.

        Any other group is its own only one. `Refused` as `find_group`, where a host would choose its subgroup itself,
        and where no subgroup can be added.
        """
        group = self.find_group(group_id)
        self._check_not_subgroup(group)
        star = self._stars.get(group_id)
        if star is None or host.endswith(AGENT):
            return group, []
        ended = self.flush_if_due(group, now) if group.end_sending([host], now) else []
        home = star.home_of(host) or star.with_room()
        if home is None:
            home, effects = self._add_subgroup(star, self.find_conference(group.conference_id), group_id, now)
            return home, [*ended, *effects]
        return (home if self.has(home) else self.find_group(home.id)), ended

    def place_send_only(self, group_id: bytes, host: str, now: float) -> tuple[Group, list[Any]]:
        """The group for a host that asks to send to this one without being a member: of a protocol of subgroups the
        backbone, whence agents carry it on; a member of another subgroup it is no longer. `Refused` as `place`."""
        group = self.find_group(group_id)
        self._check_not_subgroup(group)
        star = self._stars.get(group_id)
        home = None if star is None else star.home_of(host)
        if home is None or home is group:
            return group, []
        home.remove_host(host, now)
        return group, self.flush_if_due(home, now)

    def _check_not_subgroup(self, group: Group) -> None:
        if self.conferences[group.conference_id].place_of(group.id)[0] is not None:
            raise Refused("not-allowed", "subgroups", "which subgroup a host is in is not its own to choose")

    def _add_subgroup(
        self, star: Star, conference: Conference, backbone_id: bytes, now: float
    ) -> tuple[Group, list[Any]]:
        """Its log comes first, then the conference's knows of it, then it is served."""
        description = star.next_description()
        near = description.address
        description.ClearField("address")
        description.address = self._pools.give(description, description.group_id, set(self.addresses()), near=near)
        subgroup = Subgroup(backbone_id=backbone_id, group=description)
        conference.subgroups.append(subgroup)
        group = self._new_group(conference, description, now)
        self._beginning[group.id] = group
        star.put(group)
        log, record = conference_log(conference.id), ConferenceRecord(subgroups=[subgroup])

        def known(later: float) -> list[Any]:
            self._serve(group, later)
            return [*self._beacons.begin(group, later), *self.flush_if_due(group, later)]

        def stored(later: float) -> list[Any]:
            return self.commit(log, record, known, later)

        return group, self.journal.commit(group_log(group.id), GroupRecord(snapshot=group.snapshot()), stored)
