"""The two ends of a record: the Coordinator's description, and the Authorizer's countersignature."""

from __future__ import annotations

from typing import NamedTuple

from google.protobuf.message import DecodeError

from mcsa.conference_id import CONFERENCE_LABEL, conference_id_of
from mcsa.errors import Rejected
from mcsa.identity import SpiffeId
from mcsa.record.chain import COUNTERSIGNED_WITHIN
from mcsa.statements import COUNTERSIGNATURE_LABEL
from mcsa.trust import Trust
from mcsa.v1.authorizer_pb2 import Countersignature
from mcsa.v1.conference_pb2 import RecordEntry
from mcsa.v1.types_pb2 import ConferenceDescription


def verify_description(entry: RecordEntry, conference_id: bytes, trust: Trust) -> ConferenceDescription:
    """What the Coordinator convened, of which this conference id is the hash.

    Raises `Rejected`: what `Trust.open_statement` rejects, and "description", "conference".
    """
    signed = entry.description
    signer = trust.open_statement(signed, CONFERENCE_LABEL, entry.time_ms / 1000, peers=True)
    try:
        description = ConferenceDescription.FromString(signed.statement)
    except DecodeError:
        raise Rejected("description", "the Coordinator's description is malformed") from None
    if description.coordinator != str(signer.id):
        raise Rejected("description", f"{signer.id} signed it, but it names {description.coordinator} as Coordinator")
    if conference_id_of(description.coordinator, signed.statement) != conference_id:
        raise Rejected("conference", "the description is of another conference than the record")
    return description


class Countersigned(NamedTuple):
    """What an Authorizer said over a record, and its SPIFFE ID."""

    said: Countersignature
    by: str


def verify_countersignature(
    entry: RecordEntry, conference_id: bytes, authorizer: str, writer: str, last_ms: int, trust: Trust
) -> Countersigned:
    """What an Authorizer said over the head before this entry, within 60 s of the entry before (`last_ms`). That it
    came after that entry is in the hash; the two clocks may differ.

    It is the one that the description names, or, where the record's writer (a SPIFFE ID) is of another domain, an
    Authorizer of the writer's domain, which served it there. One of a third domain counts for nothing.

    Raises `Rejected`: what `Trust.open_statement` rejects, and "countersignature", "conference",
    "countersignature-time".
    """
    signed = entry.countersignature
    try:
        said = Countersignature.FromString(signed.statement)
    except DecodeError:
        raise Rejected("countersignature", "the statement is malformed") from None
    if said.time_ms != entry.time_ms:
        raise Rejected("countersignature-time", "the entry has another time than the statement in it")
    at = said.time_ms / 1000
    signer = trust.open_statement(signed, COUNTERSIGNATURE_LABEL, at, "authorizer", peers=True)
    if str(signer.id) != authorizer and not _serves(signer.id, authorizer, writer):
        raise Rejected("countersignature", f"{signer.id} signed it, but the conference's Authorizer is {authorizer}")
    if said.conference_id != conference_id:
        raise Rejected("conference", "the countersignature is of another conference")
    if said.head != entry.previous:
        raise Rejected("countersignature", "the Authorizer countersigned something else than the entries before")
    apart = (said.time_ms - last_ms) / 1000
    if abs(apart) > COUNTERSIGNED_WITHIN:
        raise Rejected(
            "countersignature-time",
            f"it was made {apart:.0f} s after the entry before it, and {COUNTERSIGNED_WITHIN:.0f} s are allowed",
        )
    return Countersigned(said, str(signer.id))


def _serves(signer: SpiffeId, authorizer: str, writer: str) -> bool:
    """Whether it is of the writer's domain, and that another than the conference's."""
    return signer.domain == SpiffeId.parse(writer).domain != SpiffeId.parse(authorizer).domain
