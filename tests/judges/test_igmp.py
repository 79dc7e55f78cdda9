"""tshark reads our joins and leaves as we do: IGMPv3 and MLDv2 reports, any-source and source-specific."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from mcsa.laboratory.capture import Capture
from mcsa.laboratory.namespaces import Laboratory
from mcsa.laboratory.packets import (
    ALLOW,
    IS_EXCLUDE,
    IS_INCLUDE,
    TO_EXCLUDE,
    GroupRecord,
    classify,
    parse_pcap,
    parse_report,
)
from mcsa.shell.multicast import GroupSocket
from tests.judges import require_program


class Protocol(NamedTuple):
    """How tshark names what a report has."""

    kind: str
    report: str
    version: str  # "3;" where the protocol tells one
    fields: tuple[str, ...]


IGMP = Protocol("igmp", "igmp.type == 0x22", "3;", ("igmp.version", "igmp.record_type", "igmp.maddr", "igmp.saddr"))
_MLD_RECORD = "icmpv6.mldr.mar"
MLD = Protocol(
    "mld",
    "icmpv6.type == 143",
    "",
    (f"{_MLD_RECORD}.record_type", f"{_MLD_RECORD}.multicast_address", f"{_MLD_RECORD}.source_address"),
)


@pytest.mark.parametrize("protocol", [IGMP, MLD], ids=["IGMPv3", "MLDv2"])
def test_tshark_sees_the_same_reports(laboratory: Laboratory, tmp_path: Path, protocol: Protocol) -> None:
    tshark = require_program("tshark")
    alpha, gamma = laboratory["alpha"], laboratory["gamma"]
    if protocol is IGMP:
        own, sender, any_source, source_specific = (
            alpha.address,
            gamma.address,
            laboratory.plan.group(41),
            "232.7.8.41",
        )
    else:
        own, sender, any_source, source_specific = (
            alpha.address6,
            gamma.address6,
            laboratory.plan.group6(41),
            "ff35::8000:41",
        )
    capture = Capture(alpha, tmp_path / "alpha.pcap")
    for group, sources in ((any_source, ()), (source_specific, (sender,))):
        with alpha.inside():
            opened = GroupSocket(group, 4500, own, sources)
        laboratory.await_membership(alpha, group, "".join(sources))
        opened.close()
    capture.stop()

    options = [option for field in protocol.fields for option in ("-e", field)]
    argv = [tshark, "-r", str(capture.output), "-Y", protocol.report, "-T", "fields", "-E", "separator=;", *options]
    shown = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()

    frames = [frame for _, frame in parse_pcap(capture.output.read_bytes()) if classify(frame) == protocol.kind]
    reports = [records for frame in frames if (records := parse_report(frame))]
    assert shown == [as_tshark_says(protocol, records) for records in reports]
    told = {record for report in reports for record in report}
    # A join is a change or, where a query came in that moment, the answer to it.
    assert told & {GroupRecord(change, any_source, ()) for change in (TO_EXCLUDE, IS_EXCLUDE)}
    assert told & {GroupRecord(change, source_specific, (sender,)) for change in (ALLOW, IS_INCLUDE)}


def as_tshark_says(protocol: Protocol, records: list[GroupRecord]) -> str:
    changes = ",".join(str(record.change) for record in records)
    groups = ",".join(record.group for record in records)
    sources = ",".join(source for record in records for source in record.sources)
    return f"{protocol.version}{changes};{groups};{sources}"
