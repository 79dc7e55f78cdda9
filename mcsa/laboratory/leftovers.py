"""What a laboratory leaves when its owner is killed: noted while it lives, found by name and process id, removed.

A note is a JSON file in $XDG_STATE_HOME/mcsa/laboratories. A process belongs to a laboratory if it is in one of its
network namespaces or carries the laboratory's name in its environment.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from mcsa.errors import Refused
from mcsa.laboratory.plan import LaboratoryPlan
from mcsa.laboratory.programs import CODE, NAMESPACES, run

MARK = "MCSA_LABORATORY"


def _notes() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "mcsa" / "laboratories"


def note(plan: LaboratoryPlan) -> None:
    """Notes, before it is made, what a laboratory of this process is going to make."""
    content = {"owner": os.getpid(), "owner_started": _started(os.getpid()), "namespaces": plan.namespaces}
    directory = _notes()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / f"{plan.name}.json").write_text(json.dumps(content))
    except OSError as error:
        way_out = "Set XDG_STATE_HOME to a directory of yours."
        raise Refused(CODE, "state", f"{directory} can't be written ({error.strerror}). {way_out}") from error


def remove_leftovers(owner: int | None = None) -> list[str]:
    """Removes the laboratories of a process that is no more (of all such, without `owner`); gives their names.

    A laboratory whose owner lives is left alone.
    """
    removed = []
    for path in sorted(_notes().glob("mcsa-*.json")):
        try:
            content = json.loads(path.read_text())
            its_owner, started, namespaces = content["owner"], content["owner_started"], content["namespaces"]
        except (OSError, ValueError, KeyError):  # another cleaner was quicker, or the disk was full
            continue
        if owner in (None, its_owner) and _started(its_owner) != started:
            remove(path.stem, namespaces)
            removed.append(path.stem)
    return removed


def remove(name: str, namespaces: Iterable[str]) -> None:
    """Kills a laboratory's processes, removes its namespaces and its note. Does what is left to do, if anything."""
    there = [namespace for namespace in namespaces if (NAMESPACES / namespace).exists()]
    for process in processes_of(name, there):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)
    for namespace in there:
        with suppress(Refused):  # another cleaner was quicker
            run(["ip", "netns", "delete", namespace])
    (_notes() / f"{name}.json").unlink(missing_ok=True)


def processes_of(name: str, namespaces: Collection[str]) -> set[int]:
    """The processes of a laboratory, but for this one and its ancestors."""
    mark = f"{MARK}={name}".encode()
    networks = {(NAMESPACES / namespace).stat().st_ino for namespace in namespaces}
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone, or another user's
            if (entry / "ns" / "net").stat().st_ino in networks or mark in (entry / "environ").read_bytes().split(
                b"\0"
            ):
                found.add(int(entry.name))
    return found - _ancestry()


def _ancestry() -> set[int]:
    line, process = set(), os.getpid()
    while process > 0:
        line.add(process)
        process = int(_status(process)[1])
    return line


def _started(process: int) -> int | None:
    """When a process started, in clock ticks since boot: tells it from a later one of the same id. None: gone."""
    try:
        status = _status(process)
    except OSError:
        return None
    return None if status[0] == "Z" else int(status[19])


def _status(process: int) -> list[str]:
    """/proc/<id>/stat after the name, proc(5): [0] the state, [1] the parent, [19] the start time."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
