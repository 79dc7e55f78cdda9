"""A session directory's configuration."""

from __future__ import annotations

import ipaddress

from pydantic import Field, field_validator

from mcsa.sap.schedule import BITS_PER_SECOND, FORGET_AFTER
from mcsa.sap.scopes import LINK, Scopes
from mcsa.shell.network_settings import NetworkedSettings


class SdSettings(NetworkedSettings):
    """See `mcsa.shell.settings` and `network_settings` for what other services have too. It hears all its networks, and
    announces a session in those that its groups belong to."""

    interval_floor: float = Field(default=30.0, gt=0)
    """Seconds at least between two announcements of a session; RFC 2974 says 300, real announcers 5 to 30."""
    bandwidth: float = Field(default=BITS_PER_SECOND, gt=0)
    """Bits a second of all announcements of a scope together, whoever makes them (RFC 2974 section 3.1)."""
    forget_after: float = Field(default=FORGET_AFTER, gt=0)
    """Seconds at least after which a session that isn't announced any more is forgotten."""
    loop: bool = True
    """Whether this machine's own network stack shows us what we send. False where the network itself gives it back:
    then what is listed has been on the wire."""
    ttl: int = Field(default=255, ge=1, le=255)
    """Of announcements (RFC 2974 section 6)."""
    scopes: list[str] = Field(default=[])
    """Administrative scopes that this directory is within beside 239.255.0.0/16 and 239.192.0.0/14, as networks; each
    is announced at its highest address."""
    listen: list[str] = Field(default=[LINK])
    """Multicast addresses to listen to beside those of the scopes. PipeWire announces at 224.0.0.56, PulseAudio at the
    address of what it announces."""
    announce_on_link: bool = False
    """Announce everything at 224.0.0.56 too, with bare line feeds: so PulseAudio and PipeWire take it."""

    @field_validator("scopes")
    @classmethod
    def _check_scopes(cls, scopes: list[str]) -> list[str]:
        Scopes(scopes)
        return scopes

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, listen: list[str]) -> list[str]:
        for address in listen:
            if not ipaddress.IPv4Address(address).is_multicast:
                raise ValueError(f"{address} is no multicast address")
        return listen
