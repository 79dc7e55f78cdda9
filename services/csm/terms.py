"""What a conference is, as its Coordinator signed it: the same for everybody who takes part."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from mcsa.conference_id import CONFERENCE_LABEL, conference_id_of, group_id_of
from mcsa.errors import Refused, Rejected
from mcsa.identity import SpiffeId
from mcsa.trust import Trust
from mcsa.v1.types_pb2 import ConferenceDescription, GroupDescription, SignedStatement

CONTROL_GROUP = "control"
CONTROL_PORT = 7_000  # inner UDP port of control messages; any would do, the group has an address of its own


@dataclass(frozen=True, slots=True)
class Terms:
    """A verified description, and the groups with what the Authorizer added."""

    conference_id: bytes
    statement: SignedStatement
    description: ConferenceDescription
    groups: tuple[GroupDescription, ...]

    @property
    def coordinator(self) -> str:
        """SPIFFE ID of the user that convened."""
        return self.description.coordinator

    @property
    def own_users(self) -> str:
        """How the names of users of the conference's own domain begin: that of the Authorizer it is at home at."""
        return f"spiffe://{SpiffeId.parse(self.description.authorizer).domain}/user/"

    @property
    def control(self) -> GroupDescription:
        """The control group: the first, by construction."""
        return self.groups[0]

    @property
    def hash(self) -> bytes:
        """SHA-256 of the description as signed, 32 bytes."""
        return hashlib.sha256(self.statement.statement).digest()


def open_terms(
    statement: SignedStatement, groups: Sequence[GroupDescription], conference_id: bytes, trust: Trust, now: float
) -> Terms:
    """`Refused("description")` unless its Coordinator signed it, and conference and groups are named after it."""
    try:
        signer = trust.open_statement(statement, CONFERENCE_LABEL, now, peers=True)
        description = ConferenceDescription.FromString(statement.statement)
        SpiffeId.parse(description.authorizer)
    except Rejected as rejected:
        raise _refused(rejected.cause, f"the Coordinator's description was not accepted: {rejected}") from None
    except DecodeError:
        raise _refused("malformed", "the Coordinator's description is malformed") from None
    if description.coordinator != str(signer.id):
        raise _refused("coordinator", "the description names another Coordinator than signed it")
    if conference_id_of(description.coordinator, statement.statement) != conference_id:
        raise _refused("conference-id", "the description is of another conference than was announced")
    if [group.group_id for group in groups] != [
        group_id_of(conference_id, index) for index in range(len(description.groups))
    ]:
        raise _refused("groups", "the groups are not those that the Coordinator described")
    if not groups or groups[0].name != CONTROL_GROUP:
        raise _refused("control-group", "the session has no control group")
    return Terms(conference_id, statement, description, tuple(groups))


def _refused(rule: str, sentence: str) -> Refused:
    return Refused("description", rule, sentence)
