"""Names and addresses of a laboratory."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from mcsa.errors import Refused
from mcsa.laboratory.plan import plan


def test_every_name_carries_owner_and_suffix() -> None:
    made = plan(("alpha", "beta"), 4711, "ab12", reflecting=("beta",))
    assert made.name == "mcsa-4711-ab12"
    assert made.namespaces == ("mcsa-4711-ab12-bridge", "mcsa-4711-ab12-alpha", "mcsa-4711-ab12-beta")
    assert [host.reflects for host in made.hosts] == [False, True]


def test_addresses_are_of_the_benchmark_network_and_differ() -> None:
    made = plan([f"h{number}" for number in range(250)], 1, "00")
    addresses = {IPv4Address(host.address) for host in made.hosts}
    assert len(addresses) == 250
    assert all(address in IPv4Network("198.18.0.0/15") for address in addresses)
    assert not addresses & {made.network.network_address, made.network.broadcast_address}
    of_ipv6 = {IPv6Address(host.address6) for host in made.hosts}
    assert len(of_ipv6) == 250
    assert all(address in made.network6 and address in IPv6Network("fd00::/8") for address in of_ipv6)


def test_loopback_hosts_have_addresses_only() -> None:
    made = plan(("alpha", "beta"), 1, "00", "loopback")
    assert made.namespaces == ()
    assert all(IPv4Address(host.address).is_loopback and host.interface == "lo" for host in made.hosts)
    assert not any(host.address6 for host in made.hosts)


def test_two_runs_of_one_process_rarely_meet() -> None:
    made = [plan(("alpha",), 4711, f"{number:04x}", "loopback") for number in range(100)]
    assert len({p.network for p in made}) > 90
    assert len({p.group(1) for p in made}) > 50
    assert all(IPv4Address(p.group(254)) in IPv4Network("239.255.0.0/16") for p in made)
    assert len({p.network6 for p in made} | {p.groups6 for p in made}) == 200
    assert all(IPv6Address(p.group6(254)) in IPv6Network("ff15::8000:0/97") for p in made)


@pytest.mark.parametrize("names", [(), ("a", "a"), ("Alpha",), ("br0",), ("bridge",), ("a" * 16,), ("a/b",)])
def test_names_that_no_host_can_have(names: tuple[str, ...]) -> None:
    with pytest.raises(Refused, match="host"):
        plan(names, 1, "00")


def test_only_hosts_reflect() -> None:
    with pytest.raises(ValueError, match="no such hosts: beta"):
        plan(("alpha",), 1, "00", reflecting=("beta",))
