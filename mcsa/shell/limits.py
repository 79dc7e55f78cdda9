"""How many files a process may have open: each group takes some, a socket, a local socket and what wakes threads."""

from __future__ import annotations

import resource
from pathlib import Path

from mcsa.errors import Refused

CODE = "limit"
KEPT_FILES = 16  # for who is served already: an application more isn't worth what they would lose
_OPEN = Path("/proc/self/fd")


def raise_open_files() -> None:
    """As many as this process may have without asking anybody (the hard limit)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def check_open_files(wanted: int, what: str) -> None:
    """`Refused` unless so many more may be opened; they are for `what`."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    now = len(list(_OPEN.iterdir()))
    if now + wanted > most:
        raise Refused(
            CODE,
            "RLIMIT_NOFILE",
            f"There is no room for {what}: this process may have {most} files open and has {now}. Raise the limit: "
            f"LimitNOFILE={max(65_536, 2 * most)} in its systemd unit, or `ulimit -n` before it is started.",
        )


def is_kept(descriptor: int) -> bool:
    """Whether it is one of the last `KEPT_FILES` that this process may have: the kernel gives the lowest that is
    free."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return descriptor >= most - KEPT_FILES
