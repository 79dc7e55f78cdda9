"""What `--describe` says of a service's configuration is what the service reads."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from mcsa.shell.described import describe
from mcsa.shell.settings import ServiceSettings
from services.authorizer.config import AuthorizerSettings
from services.csm.config import CsmSettings
from services.msm.config import MsmSettings
from services.sd.config import SdSettings

SETTINGS: dict[str, type[ServiceSettings]] = {
    "authorizer": AuthorizerSettings,
    "csm": CsmSettings,
    "msm": MsmSettings,
    "sd": SdSettings,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_key_has_words_of_its_own(name: str) -> None:
    for model in models(SETTINGS[name]):
        silent = [key for key, field in model.model_fields.items() if not field.description]
        assert not silent, f"{model.__name__} has no docstring at {', '.join(silent)}"


@pytest.mark.parametrize("name", SETTINGS)
def test_it_is_a_file_of_comments_with_every_key_and_its_default(name: str) -> None:
    settings = SETTINGS[name]
    text = describe(name, settings)
    assert tomllib.loads(text) == {}
    assert all(len(line) <= 100 for line in text.splitlines() if line.startswith("# "))
    told = tomllib.loads(re.sub(r"^#(?! )", "", text, flags=re.MULTILINE))
    assert list(told) == list(settings.model_fields)
    for key, field in settings.model_fields.items():
        if not field.is_required():
            default = field.get_default(call_default_factory=True)
            assert told[key] in (plain(default), "..."), key


def test_types_bounds_and_tables_are_told() -> None:
    text = describe("msm", MsmSettings)
    assert "(whole number, at least 0, at most 64; 0 unless given)\n#packet_processes = 0\n" in text
    assert '(text; "relay" unless given)\n#driver = "relay"\n' in text
    assert "(list of texts; has to be given)\n#bus = [" in text
    assert '#accepts = [{ authorizer = "..." }]\n' in text
    assert '- network: Of multicast addresses, IPv4 or IPv6. (text; "239.0.0.0/8" unless given)' in text


@pytest.mark.parametrize("name", SETTINGS)
def test_each_service_describes_itself(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"services.{name}", "--describe"], capture_output=True, text=True, check=True
    )
    assert done.stdout == describe(name, SETTINGS[name]) and not done.stderr


def models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """It, and the tables within."""
    tables = [inner for field in model.model_fields.values() for inner in get_args(field.annotation)]
    return [model, *(table for table in tables if isinstance(table, type) and issubclass(table, BaseModel))]


def plain(value: Any) -> Any:
    """As TOML has it."""
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
