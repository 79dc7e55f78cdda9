"""Configuration that all services have: a TOML file, and `MCSA_` environment variables, which win."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mcsa.errors import Refused
from mcsa.identity import is_domain


def state_home() -> Path:
    """`$XDG_STATE_HOME/mcsa`, or `~/.local/state/mcsa`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "mcsa"


class TableSettings(BaseModel):
    """A table within a service's configuration."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class PeerSettings(TableSettings):
    """Another domain, whose users may take part in conferences here and whose conferences ours may take part in."""

    domain: str
    """The part of SPIFFE IDs that its anchors speak for."""
    anchors: Path
    """Certificates of its authority, PEM: fetched by hand, and compared by telephone."""
    revocations: Path | None = None
    """Its revocation list, PEM."""


class ServiceSettings(BaseSettings):
    """What every service needs to know."""

    model_config = SettingsConfigDict(env_prefix="MCSA_", extra="forbid", use_attribute_docstrings=True)

    credentials: Path
    """Key and chain of this service, PEM, 0600."""
    passphrase: str = ""
    """Of that file, where it has one; better in the environment than in the file."""
    anchors: Path
    """Certificates of the authority, PEM."""
    revocations: Path | None = None
    """Its revocation list, PEM."""
    domain: str
    """The part of SPIFFE IDs that the anchors speak for."""
    peers: list[PeerSettings] = []
    """Other domains that are known here; none unless they are listed."""
    bus: list[str]
    """URLs of the broker."""
    nkey: Path
    """Seed of this service at the broker, 0600."""
    state: Path = state_home()
    """Where state is kept, 0700."""

    @field_validator("peers")
    @classmethod
    def _check_peers(cls, peers: list[PeerSettings], info: ValidationInfo) -> list[PeerSettings]:
        named = [peer.domain for peer in peers]
        for domain in named:
            if not is_domain(domain):
                raise ValueError(f"'{domain}' can't be a domain: lower-case letters, digits, dots and dashes")
            if domain == info.data.get("domain"):
                raise ValueError(f"{domain} is the own domain: its anchors go into `anchors`")
            if named.count(domain) > 1:
                raise ValueError(f"{domain} is there twice: put all its anchors into one file")
        return peers

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file."""
        return env_settings, init_settings

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """Settings from a TOML file and the environment; `Refused("configuration")` says which field is wrong."""
        try:
            values: dict[str, Any] = tomllib.loads(path.read_text()) if path else {}
            return cls(**values)
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise Refused("configuration", "file", f"{path}: {error}") from None
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
            raise Refused("configuration", "fields", f"{path or 'environment'}: " + "; ".join(lines)) from None
