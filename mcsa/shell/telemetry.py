"""The one door to OpenTelemetry.

Spans go to a collector where `OTEL_EXPORTER_OTLP_ENDPOINT` (or `..._TRACES_ENDPOINT`) is set, to a file of this process
where `MCSA_TRACE_DIR` is, and nowhere otherwise; the other `OTEL_` variables mean what they usually mean. No span is
ever the "current" one: cores hand contexts on themselves, so nothing leaks from one request into another.

Nothing secret gets in: names of attributes are of a fixed set (`ATTRIBUTES`), bytes are refused, text is cut short,
exceptions are named by their type and not quoted. A trace context from elsewhere only names a trace: it decides
neither whether we sample nor anything else, and baggage is not read.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from mcsa.errors import Refused
from mcsa.telemetry import AttributeValue, NullSpan, parse_traceparent

ATTRIBUTES = frozenset(
    {"attempt", "caller", "code", "conference", "count", "epoch", "group", "host", "kind", "members", "participant"}
    | {"phase", "protocol", "recipient", "round", "scheme", "sender", "service", "session", "size", "user", "verb"}
)
LONGEST = 80  # characters of a text attribute or of a name
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
TRACE_DIRECTORY = "MCSA_TRACE_DIR"


class OpenTelemetry:
    """`mcsa.telemetry.Telemetry` over OpenTelemetry. Without an exporter it costs nothing.

    `dropped` counts attributes that were not let in, by name.
    """

    def __init__(self, service: str, exporters: Sequence[SpanProcessor], *, instance: str = "") -> None:
        self.dropped: Counter[str] = Counter()
        self._active = bool(exporters)
        own_policy = None if "OTEL_TRACES_SAMPLER" in os.environ else ALWAYS_ON  # not the caller's flag
        attributes = {"service.name": service, "service.instance.id": instance or str(os.getpid())}
        self._provider = TracerProvider(resource=Resource.create(attributes), sampler=own_policy)
        for exporter in exporters:
            self._provider.add_span_processor(exporter)
        self._tracer = self._provider.get_tracer("mcsa")

    def span(self, name: str, traceparent: str | None = None, **attributes: AttributeValue) -> OpenSpan | NullSpan:
        """A span below the one that `traceparent` names, or a new trace."""
        parent = parse_traceparent(traceparent)
        if not self._active:
            return NullSpan(parent)
        span = self._tracer.start_span(
            name[:LONGEST], context=_context(parent), kind=SpanKind.INTERNAL, attributes=self._allowed(attributes)
        )
        return OpenSpan(span)

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()

    def _allowed(self, attributes: Mapping[str, object]) -> dict[str, AttributeValue]:
        allowed: dict[str, AttributeValue] = {}
        for name, attribute in attributes.items():
            if name not in ATTRIBUTES or not isinstance(attribute, str | int | float):
                self.dropped[name] += 1
            else:
                allowed[f"mcsa.{name}"] = attribute[:LONGEST] if isinstance(attribute, str) else attribute
        return allowed


class OpenSpan:
    """A span that has begun."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent: str | None = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def end(self, error: str | None = None) -> None:
        """It is over; `error` is a code. Only the first time counts."""
        if not self._span.is_recording():
            return
        if error is not None:
            self._span.set_status(Status(StatusCode.ERROR, error if _CODE.fullmatch(error) else "error"))
        self._span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, Refused):
            self.end(error.code)
        else:
            self.end(kind.__name__ if kind is not None else None)


class FileExporter(SpanExporter):
    """Appends finished spans to a file, a JSON object a line, as `mcsa.trace_tree` reads them."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Writes them; a full disk loses spans and nothing else."""
        try:
            for span in spans:
                self._file.write(json.dumps(_fields(span), ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError:
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Closes the file."""
        with suppress(OSError):  # a full disk, again
            self._file.close()


def set_up_telemetry(service: str, instance: str = "", environment: Mapping[str, str] = os.environ) -> OpenTelemetry:
    """Telemetry as the environment asks for. `service` as in "msm", `instance` as in the host's name."""
    exporters: list[SpanProcessor] = []
    if any(environment.get(name) for name in _ENDPOINTS):
        exporters.append(BatchSpanProcessor(OTLPSpanExporter()))
    directory = environment.get(TRACE_DIRECTORY)
    if directory:
        path = Path(directory) / f"{service}-{instance or 'process'}-{os.getpid()}.jsonl"
        exporters.append(SimpleSpanProcessor(FileExporter(path)))
    return OpenTelemetry(service, exporters, instance=instance)


def current_traceparent() -> str | None:
    """The trace context that the calling application is in, by OpenTelemetry's own rules; None where in none."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _context(traceparent: str | None) -> Context:
    if traceparent is None:
        return Context()
    _, trace_id, span_id, _ = traceparent.split("-")
    remote = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(1))
    return trace.set_span_in_context(NonRecordingSpan(remote), Context())


def _fields(span: ReadableSpan) -> dict[str, object]:
    context = span.get_span_context()
    if context is None or span.start_time is None or span.end_time is None:
        raise ValueError("a span that was exported has not begun or not ended")
    return {
        "service": span.resource.attributes["service.name"],
        "instance": span.resource.attributes["service.instance.id"],
        "name": span.name,
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "parent_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "start_ns": span.start_time,
        "end_ns": span.end_time,
        "error": span.status.description if span.status.status_code is StatusCode.ERROR else None,
        "attributes": dict(span.attributes or {}),
    }
