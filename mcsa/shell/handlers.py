"""Runs the handlers of messages: never in the way of who reads the messages, and never passing on an exception."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from mcsa.shell.log import CountedLog

Crashed = Callable[[Exception], None]


class Handlers:
    """The handlers of one subscription.

    A plain function is called in the order of the messages. A coroutine function gets a task of its own for each
    message, at most `limit` at once: then reading waits, the subscription's queue fills, and what doesn't fit is
    dropped and counted. An exception is a bug of ours: it is counted, logged by type and place (never by text), and
    given to `crashed`; the sender of the message learns nothing.
    """

    def __init__(self, limit: int, tasks: set[asyncio.Task[None]], log: CountedLog, crashed: Crashed | None) -> None:
        self._free = asyncio.Semaphore(limit)
        self._tasks = tasks
        self._log = log
        self._crashed = crashed

    async def run(self, handler: Callable[..., Awaitable[None] | None], *arguments: object) -> None:
        """Begins one; returns when there is room for another."""
        await self._free.acquire()
        try:
            result = handler(*arguments)
        except Exception as error:
            self._free.release()
            self._failed(error)
            return
        if not inspect.iscoroutine(result):
            self._free.release()
            return
        task = asyncio.create_task(self._finish(result))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, running: Coroutine[Any, Any, None]) -> None:
        try:
            await running
        except Exception as error:
            self._failed(error)
        finally:
            self._free.release()

    def _failed(self, error: Exception) -> None:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        at = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else ""
        self._log.count_and_log("handler-failed", error=type(error).__name__, at=at)
        if self._crashed is not None:
            self._crashed(error)
