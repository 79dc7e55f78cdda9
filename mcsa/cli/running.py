"""What `mcsa up` noted of the domain that it runs, and whether it still does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mcsa.sdk.places import running_domain

STARTED = 21  # field of /proc/PID/stat after the name: when the process started, proc(5)


def noted() -> dict[str, Any] | None:
    """The note, of a killed one, too."""
    try:
        note: dict[str, Any] = json.loads(running_domain().read_text())
    except (OSError, ValueError):
        return None
    return note


def running() -> dict[str, Any] | None:
    """The note of a domain whose process lives; a process of the same number started at another time is another."""
    note = noted()
    return note if note is not None and started(note["process"]) == note["started"] else None


def started(process: int) -> int | None:
    """When a process started, in clock ticks since boot; None where it is no more."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[STARTED - 2])
