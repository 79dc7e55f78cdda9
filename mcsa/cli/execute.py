"""`mcsa exec`: a program on a host of `mcsa up`."""

from __future__ import annotations

import os
from typing import Annotated, Any, NoReturn

import typer

from mcsa.cli.running import running
from mcsa.errors import Refused
from mcsa.shell.programs import program

AS_IT_IS = {
    "allow_interspersed_args": False,
    "ignore_unknown_options": True,
}  # options after the host are the program's


def execute(
    host: Annotated[str, typer.Argument(help="Name of the host.")],
    command: Annotated[list[str], typer.Argument(metavar="PROGRAM [ARGUMENTS]", help="What to run there.")],
) -> None:
    """Run a program on a host of `mcsa up`: in its network namespace, with your own files and terminal.

    As in: mcsa exec beta -- iperf -s -u -B 239.255.1.2. Its exit code is the program's.
    """
    note = running()
    if note is None:
        raise Refused("no-domain", "host", "no domain runs here; `mcsa up` starts one")
    argv = command[1:] if command[0] == "--" else command
    if not argv:
        raise typer.BadParameter("say which program is to run there")
    _become([*entering(note, host), *argv])


def entering(note: dict[str, Any], host: str) -> list[str]:
    """What a command that runs on a host of a noted domain begins with; `Refused("host")` where there is none."""
    hosts = note["hosts"]
    if host not in hosts:
        raise Refused("host", "unknown", f"there is no host '{host}'; there are: {', '.join(hosts)}")
    if not hosts[host]["namespace"]:
        sentence = f"on loopback there is nothing to enter: run the program as it is, from {hosts[host]['address']}"
        raise Refused("host", "loopback", sentence)
    enter = [program("nsenter", "host"), "--target", str(note["services"][f"msm-{host}"]), "--net"]
    # Credentials stay: an ordinary user is root in the namespace already, and may not set groups there.
    return [*enter, *(["--user", "--preserve-credentials"] if note["kind"] == "user-namespaces" else []), "--"]


def _become(argv: list[str]) -> NoReturn:
    os.execv(argv[0], argv)  # noqa: S606 - no shell wanted
