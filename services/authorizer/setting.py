"""What a group is at its Authorizer, for its life."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mcsa.esp.spi import SENDER_ID_LIMIT
from mcsa.gkm import Authority, scheme_named
from mcsa.identity import Credentials, SpiffeId
from mcsa.keys import Random
from mcsa.v1.types_pb2 import ConferenceDescription, GroupDescription, SignedStatement


@dataclass(frozen=True, slots=True)
class Setting:
    """See the module."""

    description: GroupDescription
    conference_id: bytes
    signed_description: SignedStatement
    authorizer: Credentials
    address: str  # the Authorizer's own
    random: Random
    access_list: Callable[[], bytes] = bytes
    distributors: Sequence[str] = ()  # patterns of hosts that may serve joins, where the scheme has such
    backbone: GroupDescription | None = None  # of a subgroup: what it is joined to (`subgroups.py`)
    sender_ids: range = range(1, SENDER_ID_LIMIT - 1)

    def gkm(self) -> Authority:
        """A fresh authority of the group's key management protocol."""
        return scheme_named(self.description.policy.gkm).create(self.random)

    @property
    def domain(self) -> str:
        """Of the Authorizer that the conference is at home at, whoever serves it: all members derive under it."""
        description = ConferenceDescription.FromString(self.signed_description.statement)
        return SpiffeId.parse(description.authorizer).domain
