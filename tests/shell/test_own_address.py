"""A host's own address while its network changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mcsa.errors import Refused
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.networks import DEFAULT, Network
from mcsa.shell.interfaces import ipv4_interfaces
from mcsa.shell.own_address import NetworkWatch, OwnAddress, OwnNetworks
from tests.shell.conftest import until

OTHER, OTHER6 = "198.51.100.77", "2001:db8::77"


@pytest.fixture
def host(laboratory: Laboratory) -> Iterator[Host]:
    """Whole again afterwards."""
    gamma = laboratory["gamma"]
    yield gamma
    gamma.run(["ip", "link", "set", "eth0", "up"])
    gamma.run(["ip", "address", "flush", "dev", "eth0", "scope", "global"])
    plan = laboratory.plan
    ip(gamma, f"address replace {gamma.address}/{plan.network.prefixlen} dev eth0")
    ip(gamma, f"address replace {gamma.address6}/{plan.network6.prefixlen} dev eth0 nodad")  # of use at once


def ip(host: Host, command: str) -> None:
    host.run(["ip", *command.split()])


@contextmanager
def watched(host: Host, wanted: str) -> Iterator[tuple[list[Network], Callable[[], None]]]:
    """What is told of this host's network. The loop's thread is on the host meanwhile, where a service always is."""
    told: list[Network] = []
    with host.inside():
        watch = NetworkWatch(OwnAddress(wanted), told.append)
        try:
            yield told, watch.close
        finally:
            watch.close()


async def test_all_is_well_and_nothing_is_told(host: Host) -> None:
    with watched(host, host.address) as (told, _):
        await asyncio.sleep(0.3)
        assert told == []


@pytest.mark.parametrize("family", [4, 6])
async def test_down_and_up(host: Host, family: int) -> None:
    address = host.address if family == 4 else host.address6
    with watched(host, address) as (told, _):
        ip(host, "link set eth0 down")
        await until(lambda: told and "ip link set dev eth0 up" in told[-1].trouble)
        ip(host, "link set eth0 up")
        if family == 6:  # the kernel took it off
            await until(lambda: f"ip -6 address add {address}/64 dev eth0" in told[-1].trouble)
            ip(host, f"address add {address}/64 dev eth0 nodad")
        await until(lambda: not told[-1].trouble)
        assert {network.address for network in told} == {address}


async def test_an_address_that_was_named_is_waited_for(host: Host) -> None:
    with watched(host, host.address) as (told, _):
        ip(host, f"address add {OTHER}/24 dev eth0")
        ip(host, f"address del {host.address}/24 dev eth0")
        await until(lambda: told and f"no interface has {host.address}" in told[-1].trouble)
        assert told[-1].address == host.address
        ip(host, f"address add {host.address}/24 dev eth0")  # as a second one
        await until(lambda: not told[-1].trouble)
        assert ipv4_interfaces_of(host)[host.address] == "eth0"


def ipv4_interfaces_of(host: Host) -> dict[str, str]:
    with host.inside():
        return ipv4_interfaces()


async def test_an_interface_that_was_named_has_whatever_address_it_has(host: Host) -> None:
    with watched(host, "eth0") as (told, _):
        ip(host, f"address del {host.address}/24 dev eth0")
        await until(lambda: told and told[-1].trouble)
        assert told[-1].address == host.address  # no other one of its family
        ip(host, f"address add {OTHER}/24 dev eth0")
        await until(lambda: not told[-1].trouble)
        assert told[-1].address == OTHER


async def test_an_interface_with_ipv6_only(host: Host) -> None:
    ip(host, "-4 address flush dev eth0")
    with watched(host, "eth0") as (told, _):
        with host.inside():
            assert OwnAddress("eth0").address == host.address6
        ip(host, f"address add {OTHER6}/64 dev eth0 nodad")
        ip(host, f"address del {host.address6}/64 dev eth0")
        await until(lambda: told and told[-1].address == OTHER6)


def test_which_family_can_be_said(host: Host) -> None:
    with host.inside():
        assert OwnAddress("eth0").address == host.address
        assert OwnAddress("eth0 ipv6").address == host.address6


async def test_one_that_is_made_again_is_another_interface(laboratory: Laboratory) -> None:
    host = laboratory["mallory"]
    ip(host, "link add extra type veth peer name other")
    ip(host, f"address add {OTHER}/24 dev extra")
    ip(host, "link set extra up")
    ip(host, "link set other up")
    with watched(host, OTHER) as (told, _):
        before = OwnAddress(OTHER).now().index
        ip(host, "link del extra")
        await until(lambda: told and "there is no interface extra:" in told[-1].trouble)
        ip(host, "link add extra type veth peer name other")
        ip(host, f"address add {OTHER}/24 dev extra")
        ip(host, "link set extra up")
        await until(lambda: "no carrier" in told[-1].trouble)
        ip(host, "link set other up")
        await until(lambda: not told[-1].trouble)
        assert told[-1].index not in (0, before)
    ip(host, "link del extra")


async def test_after_closing_nothing_is_told(host: Host) -> None:
    with watched(host, host.address) as (told, close):
        ip(host, "link set eth0 down")
        close()
        await asyncio.sleep(0.4)
        assert told == []


def test_an_interface_that_there_isnt_is_refused(host: Host) -> None:
    with host.inside(), pytest.raises(Refused, match="eth7") as refused:
        OwnAddress("eth7")
    assert refused.value.rule == "interface"


async def test_a_further_network_may_be_missing_when_a_service_begins(host: Host) -> None:
    wanted = {DEFAULT: "eth0", "239.193.0.0/16": "eth7 ipv4"}
    told: list[tuple[str, Network]] = []
    with host.inside():
        with pytest.raises(Refused, match="eth7"):
            OwnNetworks(wanted)
        own = OwnNetworks(wanted, awaited=True)
        assert own.now().own_address("239.1.1.1") == host.address
        with pytest.raises(Refused, match="there is no interface eth7"):
            own.now().of("239.193.1.1")
        watches = own.watch(lambda name, network: told.append((name, network)))
        try:
            ip(host, "link add eth7 type veth peer name other7")
            ip(host, "link set eth7 up")
            ip(host, "link set other7 up")
            await until(lambda: told and "eth7 has no IPv4 address: ip address add" in told[-1][1].trouble)
            ip(host, f"address add {OTHER}/24 dev eth7")
            await until(lambda: told[-1][1].address == OTHER and not told[-1][1].trouble)
            assert {name for name, _ in told} == {"239.193.0.0/16"}
        finally:
            for watch in watches:
                watch.close()
            ip(host, "link del eth7")
        with pytest.raises(Refused, match="eth7"):
            OwnNetworks({DEFAULT: "eth7"}, awaited=True)
