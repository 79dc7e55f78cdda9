"""Step `summary`: packets, epochs, times, and the trace of an ejection as a tree."""

from __future__ import annotations

from mcsa.demo.stage import Stage
from mcsa.demo.telling import StepError, Telling
from mcsa.errors import Rejected
from mcsa.laboratory.packets import count_kinds, parse_pcap
from mcsa.trace_tree import FinishedSpan, parse_span, tree_lines

SHOWN = 40  # lines of a tree
LOOKING = "describe-groups"  # the demo's own questions, which are no part of what happened


async def summary(stage: Stage, tell: Telling) -> None:
    """What there is to count, and the trace."""
    if stage.wire is not None:
        stage.wire.stop()
        frames = [frame for _, frame in parse_pcap((stage.folder / "wire.pcap").read_bytes())]
        kinds = count_kinds(frames, stage.processes.broker.port)
        stage.figures["frames"] = kinds
        tell.say("frames on the bridge: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    for name, figure in stage.figures.items():
        if isinstance(figure, int | float | str):
            tell.say(f"{name.replace('_', ' ')}: {figure}")
    spans = _spans(stage)
    traces = {span.trace_id for span in spans if span.name == "demo.eject"}
    lines = tree_lines([span for span in spans if span.trace_id in traces and LOOKING not in span.name])
    tell.say("the ejection as a trace, from the command to the last member's new key:")
    tell.show(lines[:SHOWN])
    if len(lines) > SHOWN:
        tell.show([f"... and {len(lines) - SHOWN} more"])
    hosts = {span.instance for span in spans if span.trace_id in traces and span.name == "csm.key-run"}
    if not {player.host.name for player in stage.staying} <= hosts:
        raise StepError(f"the trace does not reach every member's new key, only {', '.join(sorted(hosts)) or 'none'}")


def _spans(stage: Stage) -> list[FinishedSpan]:
    spans = []
    for path in sorted(stage.traces.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                spans.append(parse_span(line))
            except Rejected:
                continue  # cut off by a process that ended meanwhile
    return spans
