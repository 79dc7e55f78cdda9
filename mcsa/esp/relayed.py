"""What a relaying agent sends: somebody else's packet, opened in one subgroup and sealed again in another (Iolus).

Inside the ESP packet, after the inner UDP header, which stays as the origin wrote it:

    origin's sender ID (4 bytes, the upper 12 bits 0) | origin's sequence number (4) | origin's epoch (8) | payload

All big-endian, 16 bytes more than the origin's packet. The sender ID, the sequence number and the epoch are those of
the first packet, in the subgroup where it was first sent, however many agents it passes: sender IDs are given once
in all subgroups of a group, so these three name one packet in the whole group (and are what source authentication
covers).

Nothing in a packet says that it is relayed: it is where the Authorizer's signed roster says that the sender ID which
sealed it is an agent's for relaying. An agent is believed about the origin as any member is about itself, on the group
key alone: **a malicious agent can forge or silence any sender of all other subgroups, in the subgroups that it seals
into**. It can't in the origin's own subgroup, where nobody takes a relayed packet of a sender that is there.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mcsa.errors import Rejected
from mcsa.esp.inner import MAX_PAYLOAD
from mcsa.esp.spi import SENDER_ID_LIMIT

_ORIGIN = struct.Struct(">IIQ")
ORIGIN_SIZE = _ORIGIN.size
MAX_RELAYED = MAX_PAYLOAD - ORIGIN_SIZE
"""Bytes that a payload may have to be relayed; a longer one reaches its own subgroup only."""


class Origin(NamedTuple):
    """Names one packet in all subgroups of a group."""

    sender_id: int
    epoch: int
    sequence: int

    def encode(self) -> bytes:
        """16 bytes, as above."""
        return _ORIGIN.pack(self.sender_id, self.sequence, self.epoch)


def parse_relayed(payload: bytes) -> tuple[Origin, bytes]:
    """The origin and its payload; `Rejected("relayed-malformed")` where no packet can have had such an origin."""
    if len(payload) < ORIGIN_SIZE:
        raise Rejected("relayed-malformed", "short")
    sender_id, sequence, epoch = _ORIGIN.unpack_from(payload)
    if sender_id >= SENDER_ID_LIMIT or sequence == 0:
        raise Rejected("relayed-malformed", "origin")
    return Origin(sender_id, epoch, sequence), payload[ORIGIN_SIZE:]
