"""The door to system programs (`ip`, `nft`): where they are, what they say, and a named error where they don't."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from mcsa.errors import Refused

PACKAGES = {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux", "nsenter": "util-linux"}  # Debian's names


def find_program(name: str) -> str | None:
    """The path of a system program; also an ordinary user's PATH leads to /usr/sbin here."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))


def program(name: str, code: str) -> str:
    """The same; `Refused` of that code with the package to install where there is none."""
    path = find_program(name)
    if path is None:
        package = PACKAGES.get(name, name)
        raise Refused(code, name, f"The program {name} is not installed. Install it: apt-get install {package}")
    return path


def run_program(argv: Sequence[str], code: str, input: str = "") -> str:
    """Runs a system program and gives its output; `Refused` of that code with its last words where it failed."""
    name, *rest = argv
    done = subprocess.run([program(name, code), *rest], input=input, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise Refused(code, name, f"`{' '.join(argv)}` failed: {said}")
    return done.stdout
