"""The door to OpenTelemetry, with its own exporters and a collector made of http.server."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mcsa.errors import Refused
from mcsa.keys import GroupKey
from mcsa.shell.telemetry import FileExporter, OpenTelemetry, set_up_telemetry
from mcsa.telemetry import NullSpan, Telemetry
from mcsa.trace_tree import FinishedSpan, parse_span, tree_lines

ELSEWHERE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"  # not sampled, says who sent it


@pytest.fixture
def memory() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def telemetry(memory: InMemorySpanExporter) -> Iterator[OpenTelemetry]:
    telemetry = OpenTelemetry("msm", [SimpleSpanProcessor(memory)], instance="a")
    yield telemetry
    telemetry.close()


def read(directory: Path) -> list[FinishedSpan]:
    return [parse_span(line) for path in directory.iterdir() for line in path.read_text().splitlines()]


def test_a_trace_goes_from_process_to_process_and_is_printed(tmp_path: Path) -> None:
    """Three services that hand on nothing but the text of the trace context."""
    environment = {"MCSA_TRACE_DIR": str(tmp_path / "traces")}
    csm, msm, authorizer = (set_up_telemetry(name, "a", environment) for name in ("csm", "msm", "authorizer"))
    with csm.span("csm.join") as join:
        group = msm.span("msm.join-group", join.traceparent, group="239.1.2.3")
        authorizer.span("authorizer.register", group.traceparent, caller="a").end("policy")
        group.end()
    for each in (csm, msm, authorizer):
        each.close()
    spans = read(tmp_path / "traces")
    assert len({span.trace_id for span in spans}) == 1
    lines = tree_lines(spans)
    assert [line.split(":")[0] for line in lines] == ["csm a", "  msm a", "    authorizer a"]
    assert lines[1].endswith("group=239.1.2.3")
    assert lines[2].endswith("caller=a [policy]")
    assert {path.name for path in (tmp_path / "traces").iterdir()} == {
        f"{name}-a-{os.getpid()}.jsonl" for name in ("csm", "msm", "authorizer")
    }


def test_without_an_exporter_there_is_nothing() -> None:
    telemetry: Telemetry = set_up_telemetry("msm", "a", {})
    span = telemetry.span("x", ELSEWHERE)
    assert isinstance(span, NullSpan)
    assert span.traceparent == ELSEWHERE


def test_a_context_from_elsewhere_names_the_trace_and_decides_nothing(
    telemetry: OpenTelemetry, memory: InMemorySpanExporter
) -> None:
    span = telemetry.span("x", ELSEWHERE)
    span.end()
    (finished,) = memory.get_finished_spans()
    assert span.traceparent is not None
    assert span.traceparent.startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert span.traceparent.endswith("-01")
    assert finished.parent is not None
    assert finished.parent.span_id == 0xB7AD6B7169203331


def test_a_context_that_is_none_begins_a_trace(telemetry: OpenTelemetry, memory: InMemorySpanExporter) -> None:
    telemetry.span("x", "00-garbage").end()
    (finished,) = memory.get_finished_spans()
    assert finished.parent is None


def test_only_what_is_allowed_gets_in(telemetry: OpenTelemetry, memory: InMemorySpanExporter) -> None:
    secret = GroupKey(b"k" * 32)
    attributes: dict[str, Any] = {
        "caller": "a" * 1000,
        "epoch": 7,
        "group": b"bytes",
        "user": secret,
        "group_key": secret.reveal().hex(),
        "payload": "text",
    }
    telemetry.span("n" * 1000, **attributes).end()
    (finished,) = memory.get_finished_spans()
    assert dict(finished.attributes or {}) == {"mcsa.caller": "a" * 80, "mcsa.epoch": 7}
    assert finished.name == "n" * 80
    assert telemetry.dropped == {"group": 1, "user": 1, "group_key": 1, "payload": 1}
    assert secret.reveal().hex() not in finished.to_json()


@pytest.mark.parametrize(("error", "shown"), [("policy", "policy"), ("two words: secret", "error"), ("", "error")])
def test_an_error_is_a_code(telemetry: OpenTelemetry, memory: InMemorySpanExporter, error: str, shown: str) -> None:
    telemetry.span("x").end(error)
    (finished,) = memory.get_finished_spans()
    assert finished.status.description == shown


@pytest.mark.parametrize(
    ("raised", "shown"), [(ValueError("secret"), "ValueError"), (Refused("late", "deadline", "secret"), "late")]
)
def test_an_exception_is_named_and_not_quoted(
    telemetry: OpenTelemetry, memory: InMemorySpanExporter, raised: Exception, shown: str
) -> None:
    with pytest.raises(type(raised)), telemetry.span("x"):
        raise raised
    (finished,) = memory.get_finished_spans()
    assert finished.status.description == shown
    assert not finished.events
    assert "secret" not in finished.to_json()


def test_a_span_ends_once(telemetry: OpenTelemetry, memory: InMemorySpanExporter) -> None:
    with telemetry.span("x") as span:
        span.end("policy")
    span.end()
    (finished,) = memory.get_finished_spans()
    assert finished.status.description == "policy"


def test_a_full_disk_loses_spans_and_nothing_else() -> None:
    telemetry = OpenTelemetry("msm", [SimpleSpanProcessor(FileExporter(Path("/dev/full")))])
    span = telemetry.span("x")
    span.end()
    assert span.traceparent is not None
    telemetry.close()


def test_a_collector_gets_the_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[ExportTraceServiceRequest] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        telemetry = set_up_telemetry("authorizer", "lab")
        telemetry.span("authorizer.register").end()
        telemetry.close()
        server.shutdown()
        thread.join()
    (resource_spans,) = received[0].resource_spans
    names = {attribute.key: attribute.value.string_value for attribute in resource_spans.resource.attributes}
    assert (names["service.name"], names["service.instance.id"]) == ("authorizer", "lab")
    assert [span.name for span in resource_spans.scope_spans[0].spans] == ["authorizer.register"]
