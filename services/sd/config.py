"""A session directory's configuration."""

from __future__ import annotations

from mcsa.sap.directory import FORGET_AFTER
from mcsa.shell.settings import ServiceSettings


class SdSettings(ServiceSettings):
    """See `mcsa.shell.settings` for what all services have."""

    address: str
    """Own address on the interface that carries the multicast."""
    interval_floor: float = 30.0
    """Seconds at least between two announcements of a session; RFC 2974 says 300, real announcers 5 to 30."""
    forget_after: float = FORGET_AFTER
    """Seconds at least after which a session that isn't announced any more is forgotten."""
    loop: bool = True
    """Whether this machine's own network stack shows us what we send. False where the network itself gives it back:
    then what is listed has been on the wire."""
    ttl: int = 255
    """Of announcements (RFC 2974 section 6)."""
