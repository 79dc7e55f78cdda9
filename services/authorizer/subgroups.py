"""A group of many subgroups (Iolus): which host is in which, and who joins them. Sans-I/O.

The group that was announced is the backbone, and the first subgroup; each other one is a group of its own, with an
address, keys, epochs, updates and sender IDs that no other subgroup has. It is joined to the backbone by a relaying
agent, one of its members, which is a member of the backbone, too, under a name of its own (`AGENT`). So a change of
members is a change of one subgroup's keys. What the others are told of it is who may be heard from there now.
"""

from __future__ import annotations

from collections.abc import Iterator

from mcsa.conference_id import subgroup_id_of
from mcsa.errors import Refused
from mcsa.esp.spi import SENDER_ID_LIMIT
from mcsa.gkm import scheme_named
from mcsa.v1.types_pb2 import GroupDescription, RosterEntry
from services.authorizer.group import Group
from services.authorizer.group_state import AGENT

MOST = 255  # subgroups beside the backbone
SENDER_IDS = SENDER_ID_LIMIT // (MOST + 1)  # of each


def sender_ids_of(index: int) -> range:
    """Of the subgroup with that number; the backbone has 0."""
    return range(max(1, index * SENDER_IDS), (index + 1) * SENDER_IDS)


class Star:
    """All subgroups of one group, the backbone first."""

    def __init__(self, backbone: GroupDescription) -> None:
        self._description = backbone
        self._groups: dict[bytes, Group] = {}

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def put(self, group: Group) -> None:
        """A subgroup; takes the place of what was known of it."""
        self._groups[group.id] = group

    def home_of(self, host: str) -> Group | None:
        """The subgroup that a host is in, or about to be."""
        return next((group for group in self if host in group.members or host in group.batch.joiners), None)

    def with_room(self) -> Group | None:
        """A subgroup that takes one more host; agents take no place in the backbone."""
        return next((group for group in self if self._hosts(group) < self._size), None)

    def appointed_by(self, host: str) -> bool:
        """A host is some subgroup's agent."""
        return any(group.agent == host for group in self)

    def next_description(self) -> GroupDescription:
        """Of a subgroup to be added, without an address. `Refused` where there can't be more."""
        index = len(self._groups)
        if index > MOST:
            sentence = f"this group has {MOST + 1} full subgroups; make them larger (subgroup_size), or use lkh"
            raise Refused("too-many", "subgroups", sentence)
        description = GroupDescription()
        description.CopyFrom(self._description)
        description.group_id = subgroup_id_of(self._description.group_id, index)
        return description

    def settle(self, now: float) -> list[Group]:
        """What changes in some subgroups because others have changed; returns those that have something to flush.

        Who is no agent any more leaves the backbone; senders of each subgroup are told to all others.
        """
        backbone, *_ = self
        for member in [member for member in backbone.members if member.host.endswith(AGENT)]:
            if not self.appointed_by(member.host.removesuffix(AGENT)):
                backbone.remove_host(member.host, now, eject=True)  # it may have been thrown out of the leaf
        senders = {group.id: _senders(group) for group in self}
        for group in self:
            others = (entries for group_id, entries in senders.items() if group_id != group.id)
            group.distant.wanted = {entry.sender_id: entry for entries in others for entry in entries}
            if group.distant.is_behind:
                group.batch.due(now + group.policy.batch_ms / 1000)
        return [group for group in self if group.batch.due_at is not None]

    @property
    def _size(self) -> int:
        policy = self._description.policy
        return policy.subgroup_size or scheme_named(policy.gkm).promises.subgroup_size

    def _hosts(self, group: Group) -> int:
        """Those that are in, or about to be, but for agents on the backbone, be they there or still to come."""
        agents = sum(other.agent + AGENT in group.members for other in self if other.agent)
        coming = [host for host in group.batch.joiners if host not in group.members and not host.endswith(AGENT)]
        return len(group.members) - agents + len(coming)


def _senders(group: Group) -> list[RosterEntry]:
    """As the other subgroups know them: who is heard through agents, not agents, nor the Authorizer."""
    distant = []
    for entry in group.roster.values():
        if entry.sender_id != group.own_sender_id and not entry.relay:
            copy = RosterEntry(distant=True)
            copy.MergeFrom(entry)
            distant.append(copy)
    return distant
