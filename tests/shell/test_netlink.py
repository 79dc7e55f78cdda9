"""The door to the kernel's IPsec, on this machine's own kernel, which has policies; for states: `make test-kernel`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from mcsa.errors import Refused
from mcsa.laboratory.namespaces import Laboratory
from mcsa.networks import Networks
from mcsa.shell.netlink import Expiries, KernelIpsec, refusal
from mcsa.xfrm.layout import Selector
from mcsa.xfrm.operations import AddState, DeletePolicy, DeleteReported, SetPolicy
from mcsa.xfrm.policy import KernelPolicy, Template
from mcsa.xfrm.state import KernelState
from services.msm.drivers import DriverSettings, driver_named
from tests.esp.parts import traffic_key

GROUP = ip_address("239.1.1.1")
STATE = KernelState(ip_address("10.9.1.1"), GROUP, traffic_key(), 77, 1024, in_udp=True)
POLICIES = [
    KernelPolicy("in", Selector(GROUP), 101, Template(77)),
    KernelPolicy("in", Selector(GROUP, destination_port=4500), 100, Template(77, may_be_left_out=True)),
    KernelPolicy("out", Selector(GROUP), 101, Template(78, 0x12345678)),
    KernelPolicy("out", Selector(ip_address("ff18::1:2")), 101, Template(78), blocks=True),
]


@pytest.fixture
def ipsec(laboratory: Laboratory) -> Iterator[KernelIpsec]:
    with laboratory["alpha"].inside():
        door = KernelIpsec()
    with door:
        yield door
        door.carry_out([DeleteReported(report) for report in door.policies()])


def test_policies_are_set_replaced_shown_and_deleted(ipsec: KernelIpsec) -> None:
    assert not ipsec.carry_out([SetPolicy(policy) for policy in POLICIES * 2])
    assert sorted(report.reqid or 0 for report in ipsec.policies()) == [77, 77, 78, 78]
    [gone] = ipsec.carry_out([DeletePolicy(policy) for policy in [*POLICIES, POLICIES[0]]])
    assert (gone.operation, gone.number) == (DeletePolicy(POLICIES[0]), 2)  # ENOENT: it was gone already
    assert not ipsec.policies()


def test_many_operations_come_back_each_with_its_own_answer(ipsec: KernelIpsec) -> None:
    good, bad = SetPolicy(POLICIES[0]), DeletePolicy(POLICIES[2])
    failures = ipsec.carry_out([good if number % 3 else bad for number in range(500)])
    assert len(failures) == 167
    assert {failure.operation for failure in failures} == {bad}


def test_iproute2_reads_what_was_set(ipsec: KernelIpsec, laboratory: Laboratory) -> None:
    ipsec.carry_out([SetPolicy(policy) for policy in POLICIES])
    said = " ".join(laboratory["alpha"].run(["ip", "xfrm", "policy"]).split())
    assert "src 0.0.0.0/0 dst 239.1.1.1/32 proto udp dir in priority 101" in said
    assert "dst 239.1.1.1/32 proto udp dport 4500 dir in priority 100" in said
    assert "dir out priority 101 ptype main tmpl src 0.0.0.0 dst 0.0.0.0 proto esp spi 0x12345678 reqid 78" in said
    assert "dst ff18::1:2/128 proto udp dir out action block priority 101" in said
    assert "level use" in said


def test_nothing_has_expired(laboratory: Laboratory) -> None:
    with laboratory["alpha"].inside(), Expiries() as expiries:
        assert expiries.receive() == []


def test_a_kernel_without_esp_is_refused_with_the_way_out(
    ipsec: KernelIpsec, laboratory: Laboratory, tmp_path: Path
) -> None:
    failures = ipsec.carry_out([AddState(STATE)])
    if not failures:
        pytest.skip("this kernel has ESP: `make test-kernel` has the tests for it")
    refused = refusal(failures[0])
    assert (refused.code, refused.rule) == ("kernel-ipsec", "no-esp")
    assert 'Choose driver = "relay" or "tun"' in refused.sentence
    assert "modprobe" in refused.sentence
    with laboratory["alpha"].inside():
        for _ in range(2):  # and what was begun is undone
            with pytest.raises(Refused, match="no IPsec with ESP"):
                driver_named("xfrm")(DriverSettings(Networks.only(laboratory["alpha"].address), tmp_path))
    assert not ipsec.policies()


def test_who_may_not_is_told_which_capability_it_takes() -> None:
    """In a user namespace of its own a process may do nothing to the network that it came from."""
    script = (
        "from tests.shell.test_netlink import POLICIES, KernelIpsec, SetPolicy, refusal\n"
        "print(refusal(KernelIpsec().carry_out([SetPolicy(POLICIES[0])])[0]).sentence)"
    )
    done = subprocess.run(
        ["unshare", "--user", sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    if "unshare failed" in done.stderr:
        pytest.skip("this machine allows no user namespaces")
    assert "CAP_NET_ADMIN: give it to the MSM" in done.stdout, done.stderr


def test_ports_on_loopback_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="take `loopback` out"):
        driver_named("xfrm")(DriverSettings(Networks.only("10.0.0.1"), tmp_path, loopback={"audio": (15_004, 15_006)}))


def test_loopback_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="loopback"):
        driver_named("xfrm")(DriverSettings(Networks.only("127.64.1.2"), tmp_path))
