"""An MSM's configuration."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from mcsa.shell.network_settings import NetworkedSettings
from mcsa.shell.settings import TableSettings


class AcceptedSettings(TableSettings):
    """One line of the GPAD: which Authorizer may key groups in which network (RFC 5374, section 4.1.3)."""

    authorizer: str
    """Pattern over SPIFFE IDs."""
    network: str = "239.0.0.0/8"
    """Of multicast addresses, IPv4 or IPv6."""
    through: str = ""
    """SPIFFE ID of the own domain's Authorizer that serves such groups to this host; empty where the first does."""

    @field_validator("network")
    @classmethod
    def _check_network(cls, network: str) -> str:
        return str(ip_network(network))


class LoopbackSettings(TableSettings):
    """One group's UDP ports on loopback, for applications that can't use its local socket. Any user of this machine
    can speak and listen there: say it only where all of them may."""

    group: str
    """Its name in its conference: "audio"."""
    send: int
    """What comes to this port of 127.0.0.1 is sent to the group."""
    deliver: int
    """What the group's others send is sent to this port of 127.0.0.1."""

    @field_validator("send", "deliver")
    @classmethod
    def _check_port(cls, port: int) -> int:
        if not 0 < port < 65_536:
            raise ValueError(f"{port} is no UDP port")
        return port


class MsmSettings(NetworkedSettings):
    """See `mcsa.shell.settings` and `network_settings` for what other services have too. Where a network's interface is
    named, its groups follow that one's address."""

    directory: str
    """SPIFFE ID of the session directory."""
    accepts: list[AcceptedSettings]
    """Authorizers that this host takes keys from; the first line that fits counts."""
    sockets: Path
    """Folder of the local sockets, 0700."""
    driver: str = "relay"
    """What carries the packets: "relay" (applications use local sockets), or another in `services/msm/drivers`."""
    interface: str = "mcsa0"
    """Name of the TUN interface, where the driver is "tun"."""
    loopback: list[LoopbackSettings] = Field(default_factory=list)
    """Groups that are also on UDP ports of loopback. None unless said."""
    cores: list[int] = Field(default_factory=list)
    """Processor cores that the threads of the packet path are pinned to, in turn. None unless said."""
    packet_processes: int = Field(0, ge=0, le=64)
    """Processes beside the MSM's own that its groups' packets are spread over, for hosts whose groups are too much for
    one processor core. 0: all are in the MSM's own. With the driver "relay"."""
    offload: bool = True
    """Datagrams in batches by UDP_SEGMENT and UDP_GRO, where the kernel has them."""
    hpke_suite: str = "x25519"
    """Of registrations, where the group says nothing: "x25519" or "x-wing"."""

    @field_validator("accepts")
    @classmethod
    def _check_accepts(cls, accepts: list[AcceptedSettings], info: ValidationInfo) -> list[AcceptedSettings]:
        own = f"spiffe://{info.data.get('domain')}/authorizer/"
        peers = {peer.domain for peer in info.data.get("peers", [])}
        for line in accepts:
            if line.through and not line.through.startswith(own):
                raise ValueError(f"through = '{line.through}' has to be an Authorizer of the own domain: {own}NAME")
            domain = line.authorizer.removeprefix("spiffe://").partition("/")[0]
            if domain in peers and not line.through:
                raise ValueError(f"{line.authorizer} takes no hosts of this domain in: say `through` = {own}NAME")
        return accepts
