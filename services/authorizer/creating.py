"""What a Coordinator asks for when it creates a session, checked and completed: descriptions, addresses, policies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from mcsa.conference_id import CONFERENCE_LABEL, conference_id_of, group_id_of
from mcsa.errors import Refused, Rejected
from mcsa.gkm import scheme_named
from mcsa.networks import Networks
from mcsa.policy import complete_policy
from mcsa.trust import Trust
from mcsa.v1.types_pb2 import ConferenceDescription, GroupDescription, SignedStatement
from services.authorizer.addresses import AddressPools, add_own_source, complete_sources

MAX_GROUPS = 16  # in one conference
DEFAULT_TTL = 8


def open_description(
    signed: SignedStatement, authorizer: str, trust: Trust, now: float
) -> tuple[str, ConferenceDescription]:
    """The Coordinator and its description; `Refused("description")` where it isn't the Coordinator's, or can't be."""
    try:
        coordinator = trust.open_statement(signed, CONFERENCE_LABEL, now, peers=True)
        description = ConferenceDescription.FromString(signed.statement)
    except Rejected as rejected:
        raise Refused("description", rejected.cause, f"the Coordinator's description: {rejected}") from None
    except DecodeError:
        raise Refused("description", "malformed", "the Coordinator's description is malformed") from None
    if description.coordinator != str(coordinator.id):
        raise Refused("description", "coordinator", "the description names another Coordinator than signed it")
    if description.authorizer != authorizer:
        raise Refused("description", "authorizer", f"the description is for {description.authorizer}")
    if description.end_s and description.end_s < now:
        raise Refused("description", "end", "the conference ends in the past; is the clock right?")
    if not 1 <= len(description.groups) <= MAX_GROUPS:
        raise Refused("description", "groups", f"a session has 1 to {MAX_GROUPS} groups")
    return str(coordinator.id), description


@dataclass(frozen=True, slots=True)
class Addressing:
    """Where groups' addresses come from, and who sends to those with one sender: the Coordinator's host, from the
    address that it says, and this Authorizer, in the networks that it is in."""

    pools: AddressPools
    networks: Networks
    host: str


def complete_groups(
    signed: SignedStatement,
    coordinator: str,
    description: ConferenceDescription,
    addressing: Addressing,
    taken: Iterable[str],
    in_use: Iterable[str] = (),
) -> list[GroupDescription]:
    """The groups with ids, addresses of their own (not among `taken`) and whole policies; `Refused`.

    `in_use` are addresses that somebody seems to use: only where none is left it is one of those.
    """
    conference_id = conference_id_of(coordinator, signed.statement)
    addresses, avoided = set(taken), set(in_use)
    groups = []
    for index, asked in enumerate(description.groups):
        group = GroupDescription()
        group.CopyFrom(asked)
        group.group_id = group_id_of(conference_id, index)
        group.policy.CopyFrom(complete_policy(asked.policy))
        scheme_named(group.policy.gkm)
        complete_sources(group, addressing.host)
        group.address = addressing.pools.give(group, group.group_id, addresses, avoided)
        add_own_source(group, addressing.networks)
        group.ttl = asked.ttl or DEFAULT_TTL
        addresses.add(group.address)
        groups.append(group)
    return groups


def new_addresses(
    groups: Iterable[GroupDescription], pools: AddressPools, taken: Iterable[str], in_use: Iterable[str]
) -> list[str]:
    """Other addresses for groups that move, in the same networks; `Refused` where none is left."""
    addresses, avoided = set(taken), set(in_use)
    found = []
    for group in groups:
        asked = GroupDescription(sources=group.sources)
        found.append(pools.give(asked, group.group_id, addresses, avoided, near=group.address))
        addresses.add(found[-1])
    return found
