"""The networks that a service speaks in: configuration that MSM, Authorizer and directory share."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Self

from pydantic import Field, field_validator, model_validator

from mcsa.networks import DEFAULT
from mcsa.shell.own_address import family_of
from mcsa.shell.settings import ServiceSettings, TableSettings


class NetworkSettings(TableSettings):
    """A network besides the default one, and the groups that belong to it."""

    groups: str
    """A prefix of multicast addresses, IPv4 or IPv6: "239.193.0.0/16". Of several that have an address the longest
    counts."""
    address: str = ""
    """The own address in it, as the default's `address`. Empty: this host isn't in it, and groups there are refused."""

    @field_validator("groups")
    @classmethod
    def _check_groups(cls, groups: str) -> str:
        try:
            network = ip_network(groups)
        except ValueError as error:
            raise ValueError(f'{error}: write a prefix of multicast addresses, "239.193.0.0/16"') from None
        if not network.is_multicast:
            whole = "224.0.0.0/4" if network.version == 4 else "ff00::/8"
            raise ValueError(f"{groups} is no prefix of multicast addresses: choose one in {whole}")
        return str(network)

    @model_validator(mode="after")
    def _check_family(self) -> Self:
        version = ip_network(self.groups).version
        if family_of(self.address) not in (0, version):
            raise ValueError(f"{self.address} is of the other family than {self.groups}: say an IPv{version} address")
        return self

    @property
    def wanted(self) -> str:
        """As `OwnAddress` takes it: an interface's address is of the groups' family."""
        named = self.address and not family_of(self.address)
        return f"{self.address} ipv{ip_network(self.groups).version}" if named else self.address


class NetworkedSettings(ServiceSettings):
    """Of a service that speaks by multicast."""

    address: str = Field(min_length=1)
    """The own address on the interface that carries the multicast, IPv4 or IPv6; a link-local one with its interface
    (`fe80::1%eth0`). Or that interface's name (`eth0`, `eth0 ipv6`): then its address. Of all groups that belong to
    none of `networks`."""
    networks: list[NetworkSettings] = Field(default_factory=list)
    """Further networks, on other interfaces or of the other family. None unless they are listed."""

    @field_validator("networks")
    @classmethod
    def _check_networks(cls, networks: list[NetworkSettings]) -> list[NetworkSettings]:
        prefixes = [network.groups for network in networks]
        for prefix in prefixes:
            if prefixes.count(prefix) > 1:
                raise ValueError(f"{prefix} is there twice: leave one, or make one of them longer")
        return networks

    @property
    def own(self) -> dict[str, str]:
        """By name of the network what the operator says of its own address (`mcsa.shell.own_address`)."""
        return {DEFAULT: self.address, **{network.groups: network.wanted for network in self.networks}}
