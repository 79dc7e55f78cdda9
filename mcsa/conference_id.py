"""Names that can't be chosen: a conference's id is a hash over its Coordinator and description, a group's over both."""

from __future__ import annotations

from mcsa.encoding import digest

CONFERENCE_LABEL = "mcsa conference v1"
GROUP_LABEL = "mcsa group v1"
SUBGROUP_LABEL = "mcsa subgroup v1"
ID_SIZE = 16


def conference_id_of(coordinator: str, statement: bytes) -> bytes:
    """16 bytes, of the Coordinator's SPIFFE ID and the ConferenceDescription as it was signed."""
    return digest(CONFERENCE_LABEL, coordinator, statement)[:ID_SIZE]


def subgroup_id_of(group_id: bytes, index: int) -> bytes:
    """16 bytes, for a subgroup of a group, counted from 1."""
    return digest(SUBGROUP_LABEL, group_id, index)[:ID_SIZE]


def group_id_of(conference_id: bytes, index: int) -> bytes:
    """16 bytes, for the group at this place of the description's list."""
    return digest(GROUP_LABEL, conference_id, index)[:ID_SIZE]
