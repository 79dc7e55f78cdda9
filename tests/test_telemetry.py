"""The port, and the telemetry that sees nothing."""

from __future__ import annotations

import pytest

from mcsa.telemetry import NullTelemetry, parse_traceparent

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_trace_context_is_handed_on() -> None:
    with NullTelemetry().span("x", GOOD, caller="a") as span:
        assert span.traceparent == GOOD
    assert NullTelemetry().span("x").traceparent is None


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        GOOD.upper(),
        GOOD + "-more",
        GOOD + "\n",
        " " + GOOD,
        GOOD.replace("00-", "01-", 1),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        GOOD.replace("-01", "-0g"),
        "x" * 100_000,
    ],
)
def test_what_is_no_trace_context_is_none(text: object) -> None:
    assert parse_traceparent(text) is None
    assert NullTelemetry().span("x", text).traceparent is None  # type: ignore[arg-type] # it comes from elsewhere
