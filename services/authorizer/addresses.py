"""The multicast addresses that groups get, and the sources that source-specific ones have. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Container
from contextlib import suppress
from dataclasses import dataclass

from mcsa.addresses import check_group, is_canonical, is_source_specific, parse_address
from mcsa.errors import Refused
from mcsa.gkm import scheme_named
from mcsa.networks import Networks, longest_prefix
from mcsa.v1.types_pb2 import GroupDescription

NEIGHBOURS = {4: 24, 6: 112}
"""Bits that an address has in common with those that may take its place."""


def check_source(address: str) -> None:
    """A host's own address, as it says it: rosters and sources are compared as text. `Refused` otherwise."""
    if not is_canonical(address):
        sentence = f"the host's own address is malformed, or not written as others will see it: '{address[:60]}'"
        raise Refused("address", "source-address", sentence)


def check_unclaimed(address: str, host: str, claimants: Collection[str]) -> None:
    """`Refused` where another host of the group has said that it sends from this address.

    Nobody can check what a host says of itself. But where applications have nothing else to go by (`tun`, `xfrm`), they
    are told by the address who sent, so there must not be two.
    """
    others = sorted(claimant for claimant in claimants if claimant != host)
    if others:
        sentence = (
            f"{others[0]} has said that it sends from {address}, and two hosts of a group can't: if that isn't true, "
            "evict it; if it has gone, wait for its lease to end"
        )
        raise Refused("address", "claimed", sentence)


@dataclass(frozen=True, slots=True)
class AddressPools:
    """Networks that addresses are taken from, IPv4 or IPv6; source-specific ones by the family of their sources.

    What takes the place of an address of another of the host's networks than the pool's (`prefixes`, see
    `mcsa.networks`) is not taken from the pool, but from its neighbours: it stays in that network.
    """

    any_source: str = "239.255.64.0/18"  # administratively scoped, local (RFC 2365, section 6.1)
    # RFC 4607 sections 1 and 9: of 232/8 and FF3x::/32, what hosts may choose; here of site-local scope
    source_specific: tuple[str, ...] = ("232.64.0.0/10", "ff35::8000:0/97")
    prefixes: tuple[str, ...] = ()

    def give(
        self,
        asked: GroupDescription,
        group_id: bytes,
        taken: Container[str],
        avoided: Container[str] = (),
        *,
        near: str = "",
    ) -> str:
        """An address that no other group has: the one that was asked for, or one from a pool, in the network of the
        address `near` if there is one; `Refused`. One that is to be avoided is given where there is no other: whoever
        can say that it is in use can't use the pool up."""
        if asked.address:
            address = check_group(asked.address, asked.sources)
            if address in taken:
                sentence = f"{address} is another group's; one group has one address of its own"
                raise Refused("address", "in-use", sentence)
            return address
        network = self._pool_for(asked, near)
        start = int.from_bytes(group_id[:8], "big")
        second_best = ""
        for step in range(network.num_addresses):
            address = str(network[(start + step) % network.num_addresses])
            if address not in taken:
                if address not in avoided:
                    return check_group(address, asked.sources)
                second_best = second_best or address
        if second_best:
            return check_group(second_best, asked.sources)
        raise Refused("address", "pool", f"no address is left in {network}; give the Authorizer a larger pool")

    def _pool_for(self, asked: GroupDescription, near: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        pool = ipaddress.ip_network(self._for_sources(asked.sources[0]) if asked.sources else self.any_source)
        own = longest_prefix(self.prefixes, near) if near else ""
        if not near or own == longest_prefix(self.prefixes, str(pool.network_address)):
            return pool
        alike = NEIGHBOURS[parse_address(near).version]
        return ipaddress.ip_network((near, max(alike, ipaddress.ip_network(own).prefixlen) if own else alike), False)

    def _for_sources(self, source: str) -> str:
        try:
            version = parse_address(source).version
        except ValueError as error:
            raise Refused("address", "malformed", f"{error}.") from None
        for pool in self.source_specific:
            if ipaddress.ip_network(pool).version == version:
                return pool
        sentence = f"this Authorizer has no source-specific addresses of IPv{version}; see `source_specific_pools`"
        raise Refused("address", "pool", sentence)


def check_pool(pool: str, *, source_specific: bool) -> str:
    """A network of multicast addresses, in its one text form. `ValueError`."""
    network = ipaddress.ip_network(pool)
    if not network.is_multicast:
        raise ValueError(f"{pool} is no network of multicast addresses")
    if is_source_specific(network[0]) is not source_specific or is_source_specific(network[-1]) is not source_specific:
        wanted = "inside 232.0.0.0/8 or ff3x::/32" if source_specific else "outside 232.0.0.0/8 and ff3x::/32"
        raise ValueError(f"{pool} has to be {wanted} (RFC 4607)")
    return str(network)


def speaks_from(networks: Networks, group: str) -> str:
    """The Authorizer's own address as the group's roster names it. Where it isn't in the group's network it speaks by
    the bus alone, and any of its own will do."""
    try:
        return networks.own_address(group)
    except Refused:
        return networks.default.source


def complete_sources(group: GroupDescription, host_address: str) -> None:
    """Who sends to a group with one sender: the Coordinator's host, which says its address itself, as in the roster."""
    if group.one_sender and not group.sources:
        check_source(host_address)
        group.sources.append(host_address)
    if not group.sources:
        return
    if scheme_named(group.policy.gkm).subgroups:
        sentence = f"{group.policy.gkm} relays between subgroups, which takes groups that anybody sends to"
        raise Refused("policy", "one-sender", sentence)


def add_own_source(group: GroupDescription, networks: Networks) -> None:
    """And the Authorizer its updates, where the group, which has an address by now, has sources. Where it isn't in the
    group's network, its updates and beacons go by the bus alone."""
    with suppress(Refused):
        own_address = networks.own_address(group.address)
        if group.sources and group.policy.multicast_updates and own_address not in group.sources:
            group.sources.append(own_address)
