"""What gets into logs, and how much of it."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from mcsa.keys import GroupKey
from mcsa.shell.log import LONGEST, CountedLog, set_up_log

CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def logged(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_for_machines_with_the_trace() -> None:
    stream = io.StringIO()
    set_up_log("msm", stream)
    structlog.get_logger().info("joined", group="239.1.2.3", traceparent=CONTEXT)
    structlog.get_logger().info("left", traceparent="forged\n")
    structlog.get_logger().debug("not at this level")
    joined, left = logged(stream)
    assert joined["event"] == "joined"
    assert (joined["service"], joined["level"], joined["group"]) == ("msm", "info", "239.1.2.3")
    assert (joined["trace_id"], joined["span_id"]) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert joined["timestamp"].endswith("Z")
    assert "trace_id" not in left
    assert "traceparent" not in left


def test_text_for_a_terminal() -> None:
    stream = Terminal()
    set_up_log("msm", stream)
    structlog.get_logger().info("joined", group="239.1.2.3")
    assert "joined" in stream.getvalue()
    with pytest.raises(json.JSONDecodeError):
        logged(stream)


def test_no_bytes_no_keys_and_nothing_endless() -> None:
    stream = io.StringIO()
    set_up_log("msm", stream)
    key = GroupKey(b"k" * 32)
    structlog.get_logger().info("x", payload=key.reveal(), key=key, text="a" * 10_000, line="1\n2", several=["a", 1])
    (event,) = logged(stream)
    assert event["payload"] == "<32 bytes>"
    assert event["key"] == repr(key)
    assert len(event["text"]) == LONGEST
    assert event["several"] == "['a', 1]"
    assert "kkkk" not in stream.getvalue()


def test_what_others_can_make_happen_is_counted_and_logged_now_and_then() -> None:
    stream, counters, now = io.StringIO(), Counter[str](), 0.0
    set_up_log("msm", stream)
    log = CountedLog(counters, every=10.0, now=lambda: now)
    for _ in range(1000):
        log.count_and_log("denied-publish", subject="s")
    log.count_and_log("slow-consumer")
    now = 9.9
    log.count_and_log("denied-publish", subject="s")
    now = 10.0
    log.count_and_log("denied-publish", subject="s")
    assert counters == {"denied-publish": 1002, "slow-consumer": 1}
    assert [(event["event"], event["times"]) for event in logged(stream)] == [
        ("denied-publish", 1),
        ("slow-consumer", 1),
        ("denied-publish", 1001),
    ]
