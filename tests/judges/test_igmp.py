"""tshark reads our joins and leaves as we do: IGMPv3 reports, any-source and source-specific."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mcsa.laboratory.capture import Capture
from mcsa.laboratory.namespaces import Laboratory
from mcsa.laboratory.packets import ALLOW, IS_EXCLUDE, IS_INCLUDE, TO_EXCLUDE, GroupRecord, parse_pcap, parse_report
from mcsa.shell.multicast import GroupSocket
from tests.judges import require_program


def test_tshark_sees_the_same_reports(laboratory: Laboratory, tmp_path: Path) -> None:
    tshark = require_program("tshark")
    alpha, gamma = laboratory["alpha"], laboratory["gamma"]
    any_source, source_specific = laboratory.plan.group(41), "232.7.8.41"
    capture = Capture(alpha, tmp_path / "alpha.pcap")
    for group, sources in ((any_source, ()), (source_specific, (gamma.address,))):
        with alpha.inside():
            opened = GroupSocket(group, 4500, alpha.address, sources)
        laboratory.await_membership(alpha, group, "".join(sources))
        opened.close()
    capture.stop()

    fields = ("igmp.version", "igmp.record_type", "igmp.maddr", "igmp.saddr")
    options = [option for field in fields for option in ("-e", field)]
    argv = [tshark, "-r", str(capture.output), "-Y", "igmp.type == 0x22", "-T", "fields", "-E", "separator=;", *options]
    shown = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()

    reports = [records for _, frame in parse_pcap(capture.output.read_bytes()) if (records := parse_report(frame))]
    assert shown == [as_tshark_says(records) for records in reports]
    told = {record for report in reports for record in report}
    # A join is a change or, where a query came in that moment, the answer to it.
    assert told & {GroupRecord(change, any_source, ()) for change in (TO_EXCLUDE, IS_EXCLUDE)}
    assert told & {GroupRecord(change, source_specific, (gamma.address,)) for change in (ALLOW, IS_INCLUDE)}


def as_tshark_says(records: list[GroupRecord]) -> str:
    changes = ",".join(str(record.change) for record in records)
    groups = ",".join(record.group for record in records)
    sources = ",".join(source for record in records for source in record.sources)
    return f"3;{changes};{groups};{sources}"
