"""Spans as a tree."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from mcsa.errors import Rejected
from mcsa.trace_tree import FinishedSpan, parse_span, tree_lines

ROOT = FinishedSpan("csm", "a", "csm.join", "t", "1", None, 0, 41_200_000)
MIDDLE = FinishedSpan("msm", "a", "msm.join-group", "t", "2", "1", 1, 38_000_001, None, {"mcsa.group": "239.1.2.3"})
LEAF = FinishedSpan("authorizer", "lab", "authorizer.register", "t", "3", "2", 2, 6_100_002, "policy")


def outline(lines: list[str]) -> list[str]:
    return [line.split(":")[0] for line in lines]


def test_each_stands_below_what_caused_it() -> None:
    lines = tree_lines([LEAF, ROOT, MIDDLE])
    assert outline(lines) == ["csm a", "  msm a", "    authorizer lab"]
    assert lines[0].split() == ["csm", "a:", "csm.join", "41.2", "ms"]
    assert lines[1].endswith("38.0 ms  group=239.1.2.3")
    assert lines[2].endswith("6.1 ms  [policy]")


def test_the_earliest_comes_first() -> None:
    late = replace(MIDDLE, span_id="9", service="late", start_ns=50)
    assert outline(tree_lines([late, MIDDLE, ROOT])) == ["csm a", "  msm a", "  late a"]


def test_traces_do_not_mix() -> None:
    other = replace(MIDDLE, trace_id="u", service="other", start_ns=5)
    assert outline(tree_lines([ROOT, other, MIDDLE])) == ["csm a", "  msm a", "other a"]


def test_a_span_whose_cause_is_not_there_stands_at_the_root() -> None:
    assert outline(tree_lines([LEAF])) == ["authorizer lab"]


def test_spans_that_claim_to_have_caused_each_other_are_all_shown_once() -> None:
    ring = [replace(ROOT, parent_id="3"), MIDDLE, LEAF]
    assert outline(tree_lines(ring)) == ["csm a", "  msm a", "    authorizer lab"]
    itself = replace(ROOT, parent_id="1")
    assert outline(tree_lines([itself])) == ["csm a"]


def test_nothing() -> None:
    assert tree_lines([]) == []


def test_a_line_of_a_file() -> None:
    assert parse_span(json.dumps(asdict(MIDDLE))) == MIDDLE


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", "7", '{"service": "x"}', json.dumps(asdict(ROOT) | {"more": 1})])
def test_a_line_that_is_no_span(line: str) -> None:
    with pytest.raises(Rejected) as rejected:
        parse_span(line)
    assert rejected.value.cause == "span"
