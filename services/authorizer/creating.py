"""What a Coordinator asks for when it creates a session, checked and completed: descriptions, addresses, policies."""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterable

from google.protobuf.message import DecodeError

from mcsa.conference_id import CONFERENCE_LABEL, conference_id_of, group_id_of
from mcsa.errors import Refused, Rejected
from mcsa.gkm import scheme_named
from mcsa.policy import complete_policy
from mcsa.trust import Trust
from mcsa.v1.types_pb2 import ConferenceDescription, GroupDescription, SignedStatement

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


def complete_groups(
    signed: SignedStatement,
    coordinator: str,
    description: ConferenceDescription,
    pool: str,
    taken: Iterable[str],
    in_use: Iterable[str] = (),
) -> list[GroupDescription]:
    """The groups with ids, addresses of their own (not among `taken`) and whole policies; `Refused`. `in_use` are
    addresses that somebody seems to use: only where none is left it is one of those."""
    conference_id = conference_id_of(coordinator, signed.statement)
    addresses, avoided = set(taken), set(in_use)
    groups = []
    for index, asked in enumerate(description.groups):
        group = GroupDescription()
        group.CopyFrom(asked)
        group.group_id = group_id_of(conference_id, index)
        group.policy.CopyFrom(complete_policy(asked.policy))
        scheme_named(group.policy.gkm)
        group.address = give_address(asked.address, group.group_id, pool, addresses, avoided)
        group.ttl = asked.ttl or DEFAULT_TTL
        addresses.add(group.address)
        groups.append(group)
    return groups


def give_address(asked: str, group_id: bytes, pool: str, taken: set[str], avoided: Container[str] = ()) -> str:
    """A multicast address that no other group has: the one that was asked for, or one from the pool; `Refused`. One
    that is to be avoided is given where there is no other: whoever can say that it is in use can't use the pool up."""
    if asked:
        try:
            multicast = ipaddress.ip_address(asked).is_multicast
        except ValueError:
            multicast = False
        if not multicast:
            raise Refused("address", "multicast", f"'{asked}' is no multicast address")
        if asked in taken:
            raise Refused("address", "in-use", f"{asked} is another group's; one group has one address of its own")
        return asked
    network = ipaddress.ip_network(pool)
    start = int.from_bytes(group_id[:8], "big")
    second_best = ""
    for step in range(network.num_addresses):
        address = str(network[(start + step) % network.num_addresses])
        if address not in taken:
            if address not in avoided:
                return address
            second_best = second_best or address
    if second_best:
        return second_best
    raise Refused("address", "pool", f"no address is left in {network}; give the Authorizer a larger pool")
