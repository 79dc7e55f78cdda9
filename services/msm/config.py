"""An MSM's configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from mcsa.shell.settings import ServiceSettings


class AcceptedSettings(BaseModel):
    """One line of the GPAD: which Authorizer may key groups in which network (RFC 5374, section 4.1.3)."""

    authorizer: str
    network: str = "239.0.0.0/8"


class MsmSettings(ServiceSettings):
    """See `mcsa.shell.settings` for what all services have."""

    address: str
    """This host's own address on the interface that carries the multicast."""
    directory: str
    """SPIFFE ID of the session directory."""
    accepts: list[AcceptedSettings]
    """Authorizers that this host takes keys from."""
    sockets: Path
    """Folder of the local sockets, 0700."""
    offload: bool = True
    """Datagrams in batches by UDP_SEGMENT and UDP_GRO, where the kernel has them."""
    hpke_suite: str = "x25519"
    """Of registrations, where the group says nothing: "x25519" or "x-wing"."""
