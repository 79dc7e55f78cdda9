"""An Authorizer's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import field_validator, model_validator

from mcsa.shell.network_settings import NetworkedSettings
from mcsa.shell.settings import TableSettings
from services.authorizer.addresses import check_pool


class HomeSettings(TableSettings):
    """A peer's Authorizer whose groups (of scheme `kd`) this one keys for hosts of its own domain."""

    authorizer: str
    """Its SPIFFE ID; its domain is one of `peers`."""
    bus: list[str]
    """URLs of that domain's broker."""
    nkey: Path
    """Seed of this Authorizer at that broker, 0600."""


class AuthorizerSettings(NetworkedSettings):
    """See `mcsa.shell.settings` and `network_settings` for what other services have too. Updates and beacons go out in
    each group's network; where the Authorizer isn't in it, by the bus alone."""

    pool: str = "239.255.64.0/18"
    """Multicast addresses that it gives to groups, IPv4 or IPv6."""
    source_specific_pools: tuple[str, ...] = ("232.64.0.0/10", "ff35::8000:0/97")
    """Those that it gives to groups with one sender, a network for each family (RFC 4607, sections 1 and 9)."""
    rules: Path | None = None
    """Cedar policies instead of the built-in ones. Members can't hold anybody against them, and serve no joins."""
    creators: tuple[str, ...] = ()
    """SPIFFE IDs of the users that may create groups; where nobody is named, every user of the domain may."""
    distributors: tuple[str, ...] = ("*",)
    """Hosts (patterns over SPIFFE IDs) that may serve joins, where the key management protocol has members do so."""
    homes: tuple[HomeSettings, ...] = ()
    """Authorizers of peers whose conferences hosts of this domain take part in, through this one."""
    subordinates: tuple[str, ...] = ()
    """Authorizers of peers (SPIFFE IDs) that may do so with groups of this one."""

    @field_validator("pool")
    @classmethod
    def _check_pool(cls, pool: str) -> str:
        return check_pool(pool, source_specific=False)

    @field_validator("source_specific_pools")
    @classmethod
    def _check_pools(cls, pools: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_pool(pool, source_specific=True) for pool in pools)

    @model_validator(mode="after")
    def _check_creators(self) -> Self:
        if self.creators and self.rules is not None:
            raise ValueError("`creators` is for the built-in rules; in `rules` of your own, say who may create there")
        users = f"spiffe://{self.domain}/user/"
        for name in self.creators:
            if not name.startswith(users):
                raise ValueError(f"creators: '{name}' has to be a user of this domain: {users}NAME")
        return self
