"""A CSM's configuration."""

from __future__ import annotations

from pathlib import Path

from mcsa.shell.settings import ServiceSettings


class CsmSettings(ServiceSettings):
    """See `mcsa.shell.settings` for what all services have."""

    authorizer: str
    """SPIFFE ID of the Authorizer for conferences that are convened here and name no other."""
    socket: Path
    """Where applications connect."""
    ckgds: tuple[str, ...] = ("bd", "central")
    """Key schemes that this host takes part in, best first, whatever a Coordinator offers."""
    application_users: tuple[int, ...] = ()
    """Numbers of other accounts whose applications may connect: they act as any user whose key file the CSM reads."""
