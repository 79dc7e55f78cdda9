"""What the kernel counted, by our names."""

from __future__ import annotations

from ipaddress import ip_address

from mcsa.xfrm.state import StateReport
from services.msm.kernel_counters import count_of_host, count_states
from services.msm.kernel_table import Reqids


def report(reqid: int, packets: int, too_old: int, replayed: int, forged: int) -> StateReport:
    return StateReport(ip_address("239.1.1.1"), 0x12345678, reqid, packets, too_old, replayed, forged, sent=0)


def test_a_groups_states_are_counted_and_nobody_elses() -> None:
    reports = [report(100, 5, 1, 2, 3), report(100, 7, 0, 0, 0), report(101, 9, 0, 0, 0), report(102, 50, 5, 5, 5)]
    assert count_states(reports, Reqids(100, 101)) == {"opened": 12, "replay": 3, "integrity": 3, "sent": 9}
    assert not count_states([], Reqids(100, 101))


def test_what_belongs_to_no_group_is_the_hosts() -> None:
    lines = ["XfrmInError             \t7", "XfrmInNoStates          \t4", "XfrmInTmplMismatch      \t0"]
    text = "\n".join([*lines, "XfrmInStateMismatch     \t2", "XfrmOutPolBlock         \t11", ""])
    assert count_of_host(text) == {"host.unknown-spi": 4, "host.source": 2, "host.unsent.paused": 11}
    assert not count_of_host("")
