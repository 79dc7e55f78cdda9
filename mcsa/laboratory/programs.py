"""The system programs that the laboratory runs, and a named error where one is missing or refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mcsa.errors import Refused

CODE = "laboratory"
NAMESPACES = Path("/run/netns")  # where `ip netns` keeps them
_PACKAGES = {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux"}  # Debian's names


def program(name: str) -> str:
    """The path of a system program; also an ordinary user's PATH leads to /usr/sbin here."""
    path = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))
    if path is None:
        package = _PACKAGES.get(name, name)
        raise Refused(CODE, name, f"The program {name} is not installed. Install it: apt-get install {package}")
    return path


def run(argv: Sequence[str], input: str = "") -> str:
    """Runs a system program and gives its output; `Refused` with its last words where it failed."""
    name, *rest = argv
    done = subprocess.run([program(name), *rest], input=input, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise Refused(CODE, name, f"`{' '.join(argv)}` failed: {said}")
    return done.stdout
