"""Finished spans of several processes, as one indented tree for people.

csm lab-a: csm.join                            41.2 ms
  msm lab-a: msm.join-group                    38.0 ms  group=239.1.2.3
    authorizer lab: authorizer.register         6.1 ms
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mcsa.errors import Rejected

_WIDTH = 56  # characters before the durations


@dataclass(frozen=True, slots=True)
class FinishedSpan:
    """One span; times in nanoseconds since 1970, by the clock of the host it ran on."""

    service: str
    instance: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    start_ns: int
    end_ns: int
    error: str | None = None
    attributes: Mapping[str, object] = field(default_factory=dict)


def parse_span(line: str) -> FinishedSpan:
    """A span from a line that `mcsa.shell.telemetry.FileExporter` wrote; `Rejected("span")` where it is none."""
    try:
        return FinishedSpan(**json.loads(line))
    except (ValueError, TypeError):
        raise Rejected("span", line[:80]) from None


def tree_lines(spans: Iterable[FinishedSpan]) -> list[str]:
    """The spans as lines, each below the one that caused it, the earliest first; one tree for each trace.

    A span whose cause isn't among them stands at the root, as does one of a ring of spans that claim to have
    caused each other.
    """
    ordered = sorted(spans, key=lambda span: (span.start_ns, span.span_id))
    known = {(span.trace_id, span.span_id) for span in ordered}
    below: dict[tuple[str, str | None], list[FinishedSpan]] = defaultdict(list)
    for span in ordered:
        cause = span.parent_id if (span.trace_id, span.parent_id) in known else None
        below[span.trace_id, cause].append(span)
    shown: set[tuple[str, str]] = set()
    lines: list[str] = []
    for root in [span for trace_id in _in_order(ordered) for span in below[trace_id, None]] + ordered:
        _show(root, 0, below, shown, lines)
    return lines


def _show(
    span: FinishedSpan,
    depth: int,
    below: Mapping[tuple[str, str | None], Sequence[FinishedSpan]],
    shown: set[tuple[str, str]],
    lines: list[str],
) -> None:
    if (span.trace_id, span.span_id) in shown:
        return
    shown.add((span.trace_id, span.span_id))
    lines.append(_line(span, depth))
    for child in below.get((span.trace_id, span.span_id), ()):
        _show(child, depth + 1, below, shown, lines)


def _line(span: FinishedSpan, depth: int) -> str:
    title = f"{'  ' * depth}{span.service} {span.instance}: {span.name}"
    notes = [f"{name.removeprefix('mcsa.')}={value}" for name, value in sorted(span.attributes.items())]
    if span.error is not None:
        notes.append(f"[{span.error}]")
    milliseconds = (span.end_ns - span.start_ns) / 1e6
    return f"{title:<{_WIDTH}} {milliseconds:8.1f} ms  {' '.join(notes)}".rstrip()


def _in_order(spans: Iterable[FinishedSpan]) -> list[str]:
    return list(dict.fromkeys(span.trace_id for span in spans))
