"""Names that can't be chosen: a conference's id is a hash over its Coordinator and description, a group's over both."""

from __future__ import annotations

import hashlib

from mcsa.encoding import digest
from mcsa.v1.types_pb2 import SignedStatement

CONFERENCE_LABEL = "mcsa conference v1"
GROUP_LABEL = "mcsa group v1"
ID_SIZE = 16


def conference_id_of(signed: SignedStatement) -> bytes:
    """16 bytes. The Coordinator is in it by its certificate, so that nobody else can sign for the same id."""
    leaf = signed.certificate_chain[0] if signed.certificate_chain else b""
    return digest(CONFERENCE_LABEL, hashlib.sha256(leaf).digest(), signed.statement)[:ID_SIZE]


def group_id_of(conference_id: bytes, index: int) -> bytes:
    """16 bytes, for the group at this place of the description's list."""
    return digest(GROUP_LABEL, conference_id, index)[:ID_SIZE]
