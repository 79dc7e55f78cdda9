"""The system programs that the laboratory runs, and a named error where one is missing or refuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mcsa.shell import programs

CODE = "laboratory"
NAMESPACES = Path("/run/netns")  # where `ip netns` keeps them


def program(name: str) -> str:
    """The path of a system program; `Refused` with the package to install where there is none."""
    return programs.program(name, CODE)


def run(argv: Sequence[str], input: str = "") -> str:
    """Runs a system program and gives its output; `Refused` with its last words where it failed."""
    return programs.run_program(argv, CODE, input)
