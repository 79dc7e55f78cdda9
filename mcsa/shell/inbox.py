"""What other threads have to tell the event loop, within bounds."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

WAITING_AT_MOST = 1_024  # events; those of packets carry a datagram each: up to 64 MiB
AT_ONCE = 64  # events that are taken before the loop has a turn for everything else


class Inbox:
    """Takes events from any thread and gives them to `feed` on the loop, in order.

    Where it is packets that make events, others decide how many there are, and a thread that reads them is faster than
    the loop: those that were dropped because the loop didn't come to them are counted, "events-lost".
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, feed: Callable[[Any], None], counters: Counter[str]) -> None:
        self._loop = loop
        self._feed = feed
        self._counters = counters
        self._waiting: deque[Any] = deque()
        self._lock = threading.Lock()
        self._scheduled = False

    def put(self, event: Any, *, droppable: bool = False) -> None:
        """From any thread. A `droppable` event is lost where too many wait; all are where the loop has ended."""
        with self._lock:
            if droppable and len(self._waiting) >= WAITING_AT_MOST:
                self._counters["events-lost"] += 1
                return
            self._waiting.append(event)
            if self._scheduled or self._loop.is_closed():
                return
            self._scheduled = True
        self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        for _ in range(AT_ONCE):
            with self._lock:
                if not self._waiting:
                    self._scheduled = False
                    return
                event = self._waiting.popleft()
            self._feed(event)
        self._loop.call_soon(self._take)
