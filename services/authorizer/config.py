"""An Authorizer's configuration."""

from __future__ import annotations

from pathlib import Path

from mcsa.shell.settings import ServiceSettings


class AuthorizerSettings(ServiceSettings):
    """See `mcsa.shell.settings` for what all services have."""

    address: str
    """Own address on the interface that carries the multicast; updates and beacons go out there too."""
    pool: str = "239.255.64.0/18"
    """Multicast addresses that it gives to groups."""
    rules: Path | None = None
    """Cedar policies instead of the built-in ones. Members can't hold anybody against them, and serve no joins."""
    distributors: tuple[str, ...] = ("*",)
    """Hosts (patterns over SPIFFE IDs) that may serve joins, where the key management protocol has members do so."""
