"""The networks that a host is in, and which of them a group belongs to: by its multicast address. Pure.

A plant has a control network and a media network, or IPv4 on one interface and IPv6 on another. The operator says which
groups a network carries, as a prefix of multicast addresses, and what the host's own address there is; of the prefixes
that have a group's address the longest counts. One network, the default, is for all groups that no prefix has: a host
with one interface has no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from mcsa.addresses import canonical, parse_address
from mcsa.errors import Refused

DEFAULT = ""
"""The default network's name; another's is its prefix."""
_WHOLE = {4: "224.0.0.0/4", 6: "ff00::/8"}


@dataclass(frozen=True, slots=True)
class Network:
    """One network as it is now. `address` is the last own one that there was, as sockets take it: a link-local one with
    its interface; empty where the operator says that this host isn't in the network, or where there was none yet.
    `trouble` is empty, or a sentence with the way out."""

    address: str
    trouble: str = ""
    index: int = 0  # of the interface: sockets on an earlier one of the same name are dead
    interface: str = ""

    @property
    def source(self) -> str:
        """The own address as others see it, without scope; empty where there is none."""
        return canonical(self.address) if self.address else ""


def longest_prefix(prefixes: Iterable[str], group: str) -> str:
    """Of these prefixes the longest that has the group's address; `DEFAULT` where none has it, or where it is none."""
    try:
        address = parse_address(group)
    except ValueError:
        return DEFAULT
    having = [prefix for prefix in prefixes if prefix and address in ip_network(prefix)]
    return max(having, key=lambda prefix: ip_network(prefix).prefixlen, default=DEFAULT)


@dataclass(frozen=True, slots=True)
class Networks:
    """All of a host's networks, by name; the default is always among them."""

    named: Mapping[str, Network]

    @classmethod
    def only(cls, address: str) -> Networks:
        """Those of a host with one interface."""
        return cls({DEFAULT: Network(address)})

    @property
    def default(self) -> Network:
        """For groups that no prefix has."""
        return self.named[DEFAULT]

    def name_of(self, group: str) -> str:
        """Of the network that the group belongs to, whether this host is in it or not."""
        return longest_prefix(self.named, group)

    def of(self, group: str) -> Network:
        """The network that the group belongs to. `Refused("network")` where this host isn't in it, or has no address
        there yet; `Refused("address")` where the group's is none."""
        try:
            version = parse_address(group).version
        except ValueError as error:
            raise Refused("address", "malformed", f"{error}.") from None
        name = self.name_of(group)
        network = self.named[name]
        if network.address and parse_address(network.address).version == version:
            return network
        if network.trouble and not network.address:
            raise Refused("network", "own-address", f"{group} can't be joined: {network.trouble}")
        sentence = (
            f"{group} belongs to a network that this host isn't in. Say its own address there, in the service's "
            f'configuration: [[networks]] groups = "{name or _WHOLE[version]}", address = an IPv{version} address or '
            "an interface's name"
        )
        raise Refused("network", "networks", sentence)

    def own_address(self, group: str) -> str:
        """The own address as the group's others see it; `Refused` as `of`."""
        return self.of(group).source

    def joined(self) -> dict[str, Network]:
        """Those that this host is in, by name."""
        return {name: network for name, network in self.named.items() if network.address}

    def changed(self, name: str, network: Network) -> Networks:
        """With one of them as it is now."""
        return Networks({**self.named, name: network})
