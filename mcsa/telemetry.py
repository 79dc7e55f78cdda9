"""Tracing as a core sees it: a port. The door to OpenTelemetry is `mcsa.shell.telemetry`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

AttributeValue = str | int | float | bool
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def parse_traceparent(text: object) -> str | None:
    """A trace context that arrived from elsewhere (W3C Trace Context, section 3.2, version 00), or None where it is
    none: it is nobody's word, so at most it names a trace."""
    return text if isinstance(text, str) and _TRACEPARENT.fullmatch(text) else None


class Span(Protocol):
    """Something that takes time. A context manager, or ended by hand where it ends elsewhere."""

    @property
    def traceparent(self) -> str | None:
        """W3C trace context to hand on."""

    def end(self, error: str | None = None) -> None:
        """It is over; `error` is a code, never a text with values in it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class Telemetry(Protocol):
    """Begins spans. Attributes are names and numbers; no key, no payload."""

    def span(self, name: str, traceparent: str | None = None, **attributes: AttributeValue) -> Span:
        """A span below the one that `traceparent` names, or a new trace."""


@dataclass(slots=True)
class NullSpan:
    """Hands on the context it was given."""

    traceparent: str | None = None

    def end(self, error: str | None = None) -> None:
        """Nothing to do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None


class NullTelemetry:
    """For the simulator and for who wants none."""

    def span(self, name: str, traceparent: str | None = None, **attributes: AttributeValue) -> NullSpan:
        """A span that nobody sees."""
        return NullSpan(parse_traceparent(traceparent))
