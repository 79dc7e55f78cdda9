"""Names and addresses of a laboratory. Pure.

Whatever a laboratory makes carries its owner's process id and a random suffix, and its addresses are picked by
both, so that two runs on one machine don't meet and a stranger can tell whose something is.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

from mcsa.errors import Refused

KindName = Literal["namespaces", "user-namespaces", "loopback"]

BENCHMARK_NETWORK = IPv4Network("198.18.0.0/15")  # RFC 2544, never routed: 512 networks of 254 hosts
LOOPBACK_NETWORK = IPv4Network("127.64.0.0/10")
GROUP_NETWORK = IPv4Network("239.255.0.0/17")  # lower half of the local scope (RFC 2365 section 6.1)
BRIDGE = "br0"
MOST_HOSTS = 250
_HOST_NAME = re.compile(r"[a-z][a-z0-9-]{0,14}")  # also an interface name on the bridge: at most 15 characters


@dataclass(frozen=True, slots=True)
class HostPlan:
    """One host. On loopback it has an IPv4 address only, and `namespace` is empty."""

    name: str
    address: str
    interface: str
    namespace: str = ""
    address6: str = ""
    reflects: bool = False  # the bridge gives it back what it sends, so that it hears what the network carried


@dataclass(frozen=True, slots=True)
class LaboratoryPlan:
    """A laboratory before it is made."""

    name: str
    kind: KindName
    network: IPv4Network
    groups: IPv4Network
    network6: IPv6Network
    groups6: IPv6Network
    hosts: tuple[HostPlan, ...]

    @property
    def bridge_namespace(self) -> str:
        """The bridge has a namespace of its own: the machine's own network stays untouched."""
        return "" if self.kind == "loopback" else f"{self.name}-bridge"

    @property
    def namespaces(self) -> tuple[str, ...]:
        """All network namespaces, the bridge's first; none on loopback."""
        return tuple(n for n in (self.bridge_namespace, *(host.namespace for host in self.hosts)) if n)

    def group(self, number: int) -> str:
        """A multicast address that no other run is likely to use; `number` from 1 to 254."""
        return str(self.groups[number])

    def group6(self, number: int) -> str:
        """Likewise of IPv6, of site-local scope."""
        return str(self.groups6[number])


def check_names(names: Sequence[str]) -> None:
    """`Refused("laboratory")` for what can't be the names of a laboratory's hosts."""
    if not 0 < len(names) <= MOST_HOSTS:
        raise Refused("laboratory", "hosts", f"a laboratory has 1 to {MOST_HOSTS} hosts, and not {len(names)}")
    for host in names:
        if not _HOST_NAME.fullmatch(host) or host in (BRIDGE, "bridge", "lo"):
            sentence = f"'{host}' can't be a host's name: take up to 15 of a-z, 0-9 and '-', and a letter first"
            raise Refused("laboratory", "host name", sentence)
        if names.count(host) > 1:
            raise Refused("laboratory", "host name", f"two hosts are called '{host}': give each a name of its own")


def plan(
    names: Sequence[str], owner: int, suffix: str, kind: KindName = "namespaces", reflecting: Collection[str] = ()
) -> LaboratoryPlan:
    """The plan for hosts of these names, for the process `owner`, with a random `suffix` of a few characters."""
    check_names(names)
    if unknown := set(reflecting) - set(names):
        raise ValueError(f"no such hosts: {', '.join(sorted(unknown))}")
    name = f"mcsa-{owner}-{suffix}"
    network = _pick(LOOPBACK_NETWORK if kind == "loopback" else BENCHMARK_NETWORK, name)
    network6, groups6 = _ipv6_networks(name)
    hosts = tuple(
        _host(name, host, (network[number], network6[number]), kind, host in reflecting)
        for number, host in enumerate(names, start=1)
    )
    return LaboratoryPlan(name, kind, network, _pick(GROUP_NETWORK, name), network6, groups6, hosts)


def _host(
    laboratory: str, name: str, addresses: tuple[IPv4Address, IPv6Address], kind: KindName, reflects: bool
) -> HostPlan:
    address, address6 = map(str, addresses)
    if kind == "loopback":
        return HostPlan(name, address, "lo", reflects=reflects)
    return HostPlan(name, address, "eth0", f"{laboratory}-{name}", address6, reflects)


def _ipv6_networks(name: str) -> tuple[IPv6Network, IPv6Network]:
    """The /64 of hosts (RFC 4193: fd, a global ID that is drawn, a subnet) and the /120 of groups that a name falls on:
    FF15::/16, transient and site-local, with group IDs from 0x80000000 on (RFC 3307 section 4.3)."""
    drawn = hashlib.sha256(name.encode()).digest()
    hosts = int.from_bytes(b"\xfd" + drawn[:5] + bytes(10), "big")
    groups = int.from_bytes(b"\xff\x15" + bytes(10) + bytes([0x80 | drawn[5], *drawn[6:8], 0]), "big")
    return IPv6Network((hosts, 64)), IPv6Network((groups, 120))


def _pick(whole: IPv4Network, name: str) -> IPv4Network:
    """The /24 of `whole` that a name falls on."""
    number = zlib.crc32(name.encode()) % (whole.num_addresses // 256)
    return IPv4Network((int(whole.network_address) + 256 * number, 24))
