"""All conferences and groups that this process of an Authorizer serves, and those that it has given up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcsa.endpoint import Refuse
from mcsa.errors import Refused
from mcsa.identity import Credentials
from mcsa.keys import Random
from mcsa.networks import Networks
from mcsa.v1 import authorizer_pb2 as wire
from services.authorizer.addresses import AddressPools
from services.authorizer.agenda import Agenda
from services.authorizer.beacons import Beacons
from services.authorizer.conference import Conference, conference_log, group_log
from services.authorizer.given_up import GivenUp
from services.authorizer.group import Group
from services.authorizer.journal import Journal, Then
from services.authorizer.snapshots import SnapshotTimes
from services.authorizer.subgroups import Star


class GroupsServed:
    """See the module."""

    def __init__(
        self,
        credentials: Credentials,
        random: Random,
        networks: Networks,
        pools: AddressPools,
        distributors: Sequence[str] = (),
    ) -> None:
        self._credentials = credentials
        self._pools = pools
        self._distributors = distributors
        self._random = random
        self._networks = networks
        self.journal = Journal()
        self._snapshots = SnapshotTimes()
        self._beacons = Beacons(credentials, random)
        self._agenda: Agenda[bytes] = Agenda()  # groups, by id
        self.conferences: dict[bytes, Conference] = {}
        self.groups: dict[bytes, Group] = {}
        self._beginning: dict[bytes, Group] = {}  # their records are on the way
        self._stars: dict[bytes, Star] = {}  # by the backbone's id
        self._creating: dict[bytes, list[Then]] = {}
        self._empty_since: dict[bytes, float] = {}
        self._given_up = GivenUp()

    # ---- looking up

    def find_group(self, group_id: bytes) -> Group:
        """`Refused` where it isn't served here."""
        group = self.groups.get(group_id)
        if group is not None:
            return group
        if group_id in self._given_up:
            raise moved()
        sentence = "this Authorizer has no such group: it was never created here, or has ended"
        raise Refused("unknown-group", "group", sentence)

    def find_conference(self, conference_id: bytes) -> Conference:
        """`Refused` where there is none."""
        conference = self.conferences.get(conference_id)
        if conference is None and self._given_up.has_conference(conference_id):
            raise moved()
        if conference is None or conference_id in self._creating:
            raise Refused("unknown-conference", "conference", "this Authorizer has no such conference")
        return conference

    def addresses(self) -> list[str]:
        """Of all groups, and those that groups are moving to."""
        found = [group.address for conference in self.conferences.values() for group in conference.all_groups()]
        return found + [address for conference in self.conferences.values() for address in conference.moving_to]

    def has(self, group: Group) -> bool:
        """It is served, or about to be, and hasn't been given up."""
        return self.groups.get(group.id) is group or self._beginning.get(group.id) is group

    def groups_of(self, conference: Conference) -> list[Group]:
        """All of a conference's, subgroups too. `Refused` where one isn't served here."""
        ids = ids_of(conference)
        return [self._beginning[id_] if id_ in self._beginning else self.find_group(id_) for id_ in ids]

    def star(self, group_id: bytes) -> Star | None:
        """A group's subgroups, where it is of a protocol that has them."""
        return self._stars.get(group_id)

    # ---- serving

    def _serve(self, group: Group, now: float) -> None:
        self.groups[group.id] = group
        self._beginning.pop(group.id, None)
        self.schedule(group)
        self._snapshots.begin(group_log(group.id), now)

    def schedule(self, group: Group) -> None:
        """To be called when something has changed of what is due to a group, and when."""
        if self.groups.get(group.id) is group:
            self._agenda.set(group.id, group.next_at(busy=self.journal.busy(group_log(group.id))))

    # ---- giving up

    def _give_up_conference(self, conference: Conference, until: float) -> list[Any]:
        effects: list[Any] = []
        del self.conferences[conference.id]
        self.journal.give_up(conference_log(conference.id))
        self._snapshots.end(conference_log(conference.id))
        for group_id in ids_of(conference):
            if group_id in self.groups:
                effects += self._give_up(self.groups[group_id], until)
            elif group_id in self._beginning:  # nobody has been told of it
                effects += self._give_up(self._beginning[group_id], until, wire.Beacon())
            self._stars.pop(group_id, None)
        return effects

    def _give_up_creating(self, conference_id: bytes, until: float) -> None:
        """Another process has begun the same conference: who asked for it asks again, and finds that one's."""
        conference = self.conferences.pop(conference_id)
        del self._creating[conference_id]
        for group_id in ids_of(conference):
            self.journal.give_up(group_log(group_id))
            self._given_up.put(group_id, conference_id, wire.Beacon(), until)

    def _give_up(self, group: Group, until: float, said: wire.Beacon | None = None) -> list[Any]:
        self.groups.pop(group.id, None)
        self._beginning.pop(group.id, None)
        self._agenda.remove(group.id)
        self._snapshots.end(group_log(group.id))
        self.journal.give_up(group_log(group.id))
        told = group.told
        last = wire.Beacon(epoch=told.epoch, update_number=told.number, next_sender_id=told.next_sender_id)
        self._given_up.put(group.id, group.conference_id, said or last, until)
        waiting = [Refuse(joiner.token, moved()) for joiner in group.batch.waiting]
        return [*waiting, *self._beacons.end(group)]


def moved() -> Refused:
    """What is answered for a group that has been given up."""
    sentence = "another process of this Authorizer has served the group meanwhile; ask again in a second"
    return Refused("moved", "fenced", sentence)


def ids_of(conference: Conference) -> list[bytes]:
    """Of all its groups, subgroups too."""
    return [group.group_id for group in conference.all_groups()]
