"""Logs: text for a terminal, JSON lines for machines, and never more of them than we decide.

What others can make happen is counted; it is logged the first time, and then at most once in `EVERY` seconds with how
often it happened since. Events are words of a fixed set. Bytes never get in.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import structlog

from mcsa.telemetry import parse_traceparent

EVERY = 10.0  # seconds
LONGEST = 500  # characters of one value: what an operator is told to do is never cut
Event = MutableMapping[str, Any]


def set_up_log(service: str, stream: TextIO | None = None, *, level: int = logging.INFO) -> None:
    """Sets up logging of this process: to stderr, as text where that is a terminal, as JSON lines otherwise."""
    stream = stream or sys.stderr
    renderer: Any = structlog.dev.ConsoleRenderer() if stream.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_trace,
            _keep_short,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # its errors come to the bus, and are counted there


class CountedLog:
    """Counts events, and logs them at a rate that nobody else controls."""

    def __init__(
        self, counters: Counter[str], *, every: float = EVERY, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._counters = counters
        self._every = every
        self._now = now
        self._logged: dict[str, tuple[float, int]] = {}

    def count_and_log(self, event: str, **fields: object) -> None:
        """One more `event`. `fields` are logged with it, those of the first time and of every time that is logged."""
        self._counters[event] += 1
        times = self._counters[event]
        at, before = self._logged.get(event, (float("-inf"), 0))
        if self._now() - at >= self._every:
            self._logged[event] = (self._now(), times)
            structlog.get_logger().warning(event, times=times - before, **fields)


def _add_trace(_logger: Any, _method: str, event: Event) -> Event:
    """`traceparent=` of a log call becomes trace and span."""
    traceparent = parse_traceparent(event.pop("traceparent", None))
    if traceparent is not None:
        _, event["trace_id"], event["span_id"], _ = traceparent.split("-")
    return event


def _keep_short(_logger: Any, _method: str, event: Event) -> Event:
    for name, field in event.items():
        if isinstance(field, bytes | bytearray | memoryview):
            event[name] = f"<{len(field)} bytes>"
        elif isinstance(field, str):
            event[name] = field[:LONGEST]
        elif not isinstance(field, int | float | bool | None):
            event[name] = repr(field)[:LONGEST]
    return event
