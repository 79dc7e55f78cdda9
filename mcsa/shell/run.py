"""Starts a service as a process, and ends it: `python -m services.<name> --config FILE`.

Exit codes: 0 after SIGTERM or SIGINT, 2 where the configuration is wrong (said on stderr), 70 after a bug of ours.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import sys
import threading
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog

from mcsa import __version__
from mcsa.errors import Refused
from mcsa.shell.described import describe
from mcsa.shell.limits import raise_open_files
from mcsa.shell.log import set_up_log
from mcsa.shell.process import forbid_core_dumps, stop_event
from mcsa.shell.settings import ServiceSettings

BUG = 70  # sysexits.h, EX_SOFTWARE
MISCONFIGURED = 2
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # as asyncio has it, at accept(2)

log = structlog.get_logger()


class Service(Protocol):
    """What a service's process runs."""

    async def start(self) -> None:
        """Returns once it serves."""

    async def close(self) -> None:
        """Ends what `start` began."""


SettingsType = TypeVar("SettingsType", bound=ServiceSettings)


def run_service(
    name: str, settings: type[SettingsType], service: Callable[[SettingsType], Service], argv: list[str] | None = None
) -> None:
    """The whole life of a service's process; ends it with the exit codes above."""
    parser = argparse.ArgumentParser(prog=f"services.{name}", description=f"MCSA {name}")
    parser.add_argument("--config", type=Path, help="TOML file; MCSA_ environment variables win")
    parser.add_argument("--describe", action="store_true", help="show what can be configured, as TOML, and end")
    parser.add_argument("--version", action="version", version=f"MCSA {__version__}")
    arguments = parser.parse_args(argv)
    if arguments.describe:
        print(describe(name, settings), end="")
        return
    forbid_core_dumps()
    raise_open_files()
    set_up_log(name)
    try:
        asyncio.run(_life(name, lambda: service(settings.load(arguments.config))))
    except Refused as refused:
        print(f"{name}: {refused.sentence}", file=sys.stderr)
        sys.exit(MISCONFIGURED)


async def _life(name: str, make: Callable[[], Service]) -> None:
    stop = stop_event()
    asyncio.get_running_loop().set_exception_handler(_unhandled)
    crash_with_threads()
    service = make()
    try:
        await service.start()
        log.info("ready", version=__version__)
        await stop.wait()
        log.info("stopping")
    finally:
        await service.close()


def crash(error: BaseException) -> None:
    """A bug of ours ends the process at once, with the place where it happened.

    A service that goes on with a state it doesn't understand is worse than one that is started again.
    """
    traceback.print_exception(error)
    os._exit(BUG)


def crash_with_threads() -> None:
    """From now on a bug of ours in any thread ends the process."""
    threading.excepthook = _unhandled_in_thread


def _unhandled_in_thread(what: threading.ExceptHookArgs) -> None:
    """A thread that dies alone would leave a service that looks alive: a group that hears nothing more."""
    crash(what.exc_value or SystemError("a thread ended without saying why"))


def _unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error, message = context.get("exception"), str(context.get("message", ""))[:200]
    if isinstance(error, OSError) and error.errno in _NO_ROOM and "socket" in context:
        _no_room(f"{message}: {error.strerror}")
    elif isinstance(error, BaseException):
        crash(error)
    else:
        log.error("loop", message=message)


@cache
def _no_room(message: str) -> None:
    """Somebody can't be accepted; asyncio tries again in a second. That is the host's limit, not a bug. Said once."""
    log.error("loop", message=message)
