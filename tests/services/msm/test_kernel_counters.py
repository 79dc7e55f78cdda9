"""What the kernel counted, by our names."""

from __future__ import annotations

from ipaddress import ip_address

from mcsa.xfrm.state import StateReport
from services.msm.kernel_counters import count_fragments, count_of_host, count_states
from services.msm.kernel_policies import Reqids


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


def test_packets_that_were_cut_are_counted_of_both_families() -> None:
    ipv4 = "Ip: Forwarding FragOKs FragCreates\nIp: 1 3 6\nUdp: InDatagrams\nUdp: 7\n"
    ipv6 = "Ip6FragOKs                      1\nIp6FragCreates                  2\n"
    assert count_fragments(ipv4, ipv6) == {"host.fragments": 8}
    assert count_fragments(ipv4, "") == {"host.fragments": 6}
    assert not count_fragments("", "")
