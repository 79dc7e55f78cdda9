"""Judges: independent programs that say whether we are right, and what a test needs of its machine."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

_SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def lacking(reason: str) -> NoReturn:
    """Skips the test with a reason; where CI=true fails it, since there everything has to be."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (not to be skipped where CI=true)", pytrace=False)
    pytest.skip(reason)


def require_program(name: str) -> str:
    """The path of a program."""
    path = shutil.which(name, path=_SYSTEM_PATH)
    if path is None:
        lacking(f"the program {name} is not installed: make judges")
    return path


def require_root() -> None:
    """Returns only if this process is root (also as root of a user namespace of its own)."""
    if os.geteuid() != 0:
        lacking("this test needs root")
