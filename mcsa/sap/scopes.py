"""Where a session is announced: each scope has its own SAP address (RFC 2974 section 3).

    239.255.0.0/16   this site               239.255.255.255   (RFC 2365 section 6.1)
    239.192.0.0/14   this organisation       239.195.255.255   (RFC 2365 section 6.2)
    other administrative scopes              the highest address of the scope, which the operator names
    all other IPv4                           224.2.127.254
    IPv6, scope X of ff0X::/12 ...           ff0X::2:7ffe

An announcement is heard as far as what it announces, and counts in the bandwidth of its own scope only. 224.0.0.56 is
where PulseAudio and PipeWire announce, whatever they announce.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

GLOBAL, ORGANISATION, LOCAL = "224.2.127.254", "239.195.255.255", "239.255.255.255"
LINK = "224.0.0.56"
ADDRESSES = (GLOBAL, ORGANISATION, LOCAL, LINK)
"""What a directory listens to on IPv4."""

IPV6_SCOPES = {1: "interface", 2: "link", 4: "admin", 5: "site", 8: "organisation", 14: "global"}
"""Those that RFC 7346 section 2 names, but for realm-local."""
_SAP_GROUP = 0x2_7FFE  # RFC 2974 section 3: FF0X::2:7FFE
_OLD_SAP = ipaddress.ip_address("224.2.127.255")  # of SAP version 0: must not be used

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def ipv6_address(scope: int) -> str:
    """The SAP address of an IPv6 scope, 1 to 15."""
    return str(ipaddress.IPv6Address((0xFF00 | scope) << 112 | _SAP_GROUP))


IPV6_ADDRESSES = tuple(ipv6_address(scope) for scope in (2, 4, 5, 8, 14))
"""What a directory listens to on IPv6: all scopes but this host's own."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A name for people, and the SAP address."""

    name: str
    address: str


class Scopes:
    """`administrative` are the networks of other IPv4 scopes that this directory is within, as "239.10.0.0/16"; the
    smallest that has an address counts. `ValueError` where one is no network, or has no multicast in it."""

    def __init__(self, administrative: Sequence[str] = ()) -> None:
        networks = [_administrative(text) for text in administrative]
        own = [(network, Scope(str(network), str(network.broadcast_address))) for network in networks]
        known = [
            (ipaddress.ip_network("239.255.0.0/16"), Scope("site", LOCAL)),
            (ipaddress.ip_network("239.192.0.0/14"), Scope("organisation", ORGANISATION)),
        ]
        self._networks: list[tuple[_Network, Scope]] = sorted(
            [*own, *known], key=lambda pair: pair[0].prefixlen, reverse=True
        )

    def of(self, group: str) -> Scope:
        """The scope of a session at this address; `ValueError` where it is none."""
        address = ipaddress.ip_address(group)
        if isinstance(address, ipaddress.IPv6Address):
            scope = address.packed[1] & 0x0F if address.is_multicast else 14
            return Scope(IPV6_SCOPES.get(scope, f"scope {scope:x}"), ipv6_address(scope))
        for network, found in self._networks:
            if address in network:
                return found
        return Scope("global", GLOBAL)

    def addresses(self) -> list[str]:
        """The SAP addresses of IPv4 to listen to; `LINK` is not among them."""
        return list(dict.fromkeys([GLOBAL, *(scope.address for _, scope in self._networks)]))

    def name_of(self, sap_address: str) -> str:
        """Of the scope that is announced at this SAP address, for people."""
        if ":" in sap_address:
            return self.of(sap_address).name
        named = {GLOBAL: "global", LINK: "link", **{scope.address: scope.name for _, scope in self._networks}}
        return named.get(sap_address, sap_address)


def _administrative(text: str) -> ipaddress.IPv4Network:
    network = ipaddress.IPv4Network(text)
    if not network.is_multicast or network.broadcast_address == _OLD_SAP:
        raise ValueError(f"{text} is no administrative scope of multicast: one is in 239.0.0.0/8")
    return network
