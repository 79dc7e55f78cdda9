"""A conference as far as its Authorizer is concerned: who may join, and who may not any more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mcsa.conference_id import conference_id_of
from mcsa.v1.authorizer_log_pb2 import ConferenceRecord, Subgroup
from mcsa.v1.authorizer_pb2 import AccessList, CreateRequest
from mcsa.v1.types_pb2 import AccessControl, ConferenceDescription, GroupDescription, SignedStatement
from services.authorizer.rules import Resource

LOG_PREFIX = "conference-"
GROUP_LOG_PREFIX = "group-"


def conference_log(conference_id: bytes) -> str:
    """Name of a conference's log."""
    return f"{LOG_PREFIX}{conference_id.hex()}"


def group_log(group_id: bytes) -> str:
    """Name of a group's log."""
    return f"{GROUP_LOG_PREFIX}{group_id.hex()}"


@dataclass(slots=True)
class Conference:
    """See the module. What is in it is in its log, or on its way there."""

    id: bytes
    signed: SignedStatement
    coordinator: str
    authorizer: str  # that it is at home at, which its Coordinator named
    policy_class: int
    access: AccessControl
    groups: list[GroupDescription]
    subgroups: list[Subgroup] = field(default_factory=list)  # beside the groups themselves
    moving_to: list[str] = field(default_factory=list)  # addresses that are on their way into the log
    banned: list[str] = field(default_factory=list)
    _resource: Resource | None = None
    _access_list: bytes | None = None

    @classmethod
    def created(cls, request: CreateRequest, coordinator: str, groups: list[GroupDescription]) -> Conference:
        """As its Coordinator asked for it; the request was checked."""
        statement = request.description.statement
        description = ConferenceDescription.FromString(statement)
        access = AccessControl()
        access.CopyFrom(request.access)
        id_ = conference_id_of(coordinator, statement)
        return cls(
            id_, request.description, coordinator, description.authorizer, description.policy_class, access, groups
        )

    @classmethod
    def restored(cls, records: Iterable[ConferenceRecord]) -> Conference | None:
        """As the records of its log tell; None where they don't say how it began."""
        whole = ConferenceRecord()
        for record in records:
            whole.MergeFrom(record)
        if not whole.HasField("created"):
            return None
        coordinator = ConferenceDescription.FromString(whole.created.description.statement).coordinator
        conference = cls.created(whole.created, coordinator, list(whole.groups))
        conference.move(whole.moved)
        conference.subgroups.extend(whole.subgroups)
        for subject in whole.banned:
            conference.ban(subject)
        return conference

    def move(self, moved: Iterable[GroupDescription]) -> None:
        """Groups have other addresses from now on; the descriptions are those that the groups themselves have."""
        addresses = {group.group_id: group.address for group in moved}
        for group in self.groups:
            group.address = addresses.get(group.group_id, group.address)

    def all_groups(self) -> list[GroupDescription]:
        """Subgroups, too."""
        return [*self.groups, *(subgroup.group for subgroup in self.subgroups)]

    def place_of(self, group_id: bytes) -> tuple[GroupDescription | None, int]:
        """Of a subgroup: the backbone that it is joined to, and its number among those; else None and 0."""
        backbone_id = next((each.backbone_id for each in self.subgroups if each.group.group_id == group_id), None)
        if backbone_id is None:
            return None, 0
        backbone = next(group for group in self.groups if group.group_id == backbone_id)
        alike = [each.group.group_id for each in self.subgroups if each.backbone_id == backbone_id]
        return backbone, alike.index(group_id) + 1

    def resource(self) -> Resource:
        """As the rules see it."""
        if self._resource is None:
            self._resource = Resource(self.id.hex(), self.coordinator, self.policy_class, self.access, self.authorizer)
        return self._resource

    def access_list(self) -> bytes:
        """As distributors get it: a serialised `AccessList`."""
        if self._access_list is None:
            listed = AccessList(
                policy_class=self.policy_class,  # type: ignore[arg-type] # an enum's value
                coordinator=self.coordinator,
                access=self.access,
            )
            self._access_list = listed.SerializeToString()
        return self._access_list

    def ban(self, subject: str) -> None:
        """Puts a host or a user on the list of those that may not join."""
        access = self.access
        listed = access.unacceptable_hosts if "/host/" in subject else access.unacceptable_users
        if subject not in listed:
            listed.append(subject)
            self._resource = self._access_list = None
        if subject not in self.banned:
            self.banned.append(subject)

    def record(self) -> ConferenceRecord:
        """All of it, as its first record or as a snapshot. Countersignatures that were given are not part of it."""
        created = CreateRequest(description=self.signed, access=self.access)
        return ConferenceRecord(created=created, groups=self.groups, banned=self.banned, subgroups=self.subgroups)
