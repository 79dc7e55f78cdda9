"""The wire of a host that sends to a group and is no member: it joins nothing, and hears nothing."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey
from mcsa.networks import Networks
from mcsa.policy import complete_policy
from mcsa.shell.local import connect
from mcsa.shell.local_frames import OutgoingFrame
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm.drivers import DriverSettings
from services.msm.drivers.relay import RelayedGroup
from services.msm.events import InstallEpoch, SendUnder, SetRoster
from services.msm.path import GroupPath, Received
from services.msm.wires import open_wire

PLACES = {"127.0.0.1": "239.255.77.21", "::1": "ff15::4d:21"}  # a host's address, and a group's
KEY, EPOCH, SENDER_ID = GroupKey(bytes(range(32))), 1_800_000_000_000, 9


@pytest.fixture(params=PLACES)
def address(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def group(address: str) -> GroupDescription:
    return GroupDescription(
        group_id=bytes(16),
        name="audio",
        address=PLACES[address],
        port=5004,
        policy=complete_policy(GroupPolicy()),
    )


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def sending(address: str, group: GroupDescription, told: list[Any], tmp_path: Path) -> Iterator[RelayedGroup]:
    at_work = RelayedGroup(
        DriverSettings(Networks.only(address), tmp_path), "example.org", group, told.append, send_only=True
    )
    yield at_work
    at_work.close()


def traffic_key(group: GroupDescription) -> SendUnder:
    suite = suite_named(group.policy.suite)
    key = derive_traffic_key(KEY, "example.org", group.group_id, EPOCH, suite, SENDER_ID)
    return SendUnder(group.group_id, EPOCH, SENDER_ID, key)


def until(happened: Any) -> None:
    deadline = time.monotonic() + 5.0
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("address", ["127.0.0.1"])  # over IPv6: tests/domain/test_send_only.py
def test_members_open_what_it_sends_and_it_opens_nothing_that_they_do(
    sending: RelayedGroup, address: str, group: GroupDescription, told: list[Any]
):
    sending.control(traffic_key(group))
    member = GroupPath("example.org", group)
    member.carry_out(InstallEpoch(group.group_id, EPOCH, KEY), 0.0)
    member.carry_out(SetRoster(group.group_id, {SENDER_ID: address}, None, None), 0.0)
    wire = open_wire(group, address)
    found: list[Any] = []
    try:
        with connect(Path(sending.socket_path), socket.SOCK_SEQPACKET) as application:
            until(lambda: sending.engine.path._sending.switched)

            def said() -> bool:
                application.send(OutgoingFrame(5004, 5004, b"from outside").encode())
                time.sleep(0.05)
                try:
                    found.extend(wire.receive(member, 0.0))
                except OSError:
                    return False
                return bool(found)

            until(said)
            assert {item.payload for item in found if isinstance(item, Received)} == {b"from outside"}
            wire.send(bytes(100))  # a member speaks to the group
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:  # and somebody to this very host
                somebody.sendto(bytes(100), (address, 4500))
            until(lambda: sending.counters().get("unknown-sender"))
            application.setblocking(False)
            with pytest.raises(BlockingIOError):
                application.recv(100)
    finally:
        wire.close()
    assert not sending.counters().get("opened") and told == []


def joined(group: GroupDescription) -> bool:
    """Whether this machine is in the group, as the kernel says."""
    address = ipaddress.ip_address(group.address)
    if address.version == 6:
        return address.packed.hex() in Path("/proc/net/igmp6").read_text()
    return address.packed[::-1].hex().upper() in Path("/proc/net/igmp").read_text()


def test_it_is_in_no_multicast_group(sending: RelayedGroup, address: str, group: GroupDescription):
    assert not joined(group)
    wire = open_wire(group, address)
    try:
        assert joined(group)
    finally:
        wire.close()


def test_nothing_is_said_before_there_is_a_key(sending: RelayedGroup):
    sending.engine.say([b"early"], 5004, 5004)
    assert sending.counters() == {"unsent.paused": 1}


def test_an_application_sends_by_udp_on_loopback_where_that_is_asked_for(
    address: str, group: GroupDescription, told: list[Any], tmp_path: Path
):
    settings = DriverSettings(Networks.only(address), tmp_path, loopback={"audio": (40_815, 40_816)})
    at_work = RelayedGroup(settings, "example.org", group, told.append, send_only=True)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as application:
            application.sendto(b"early", ("127.0.0.1", 40_815))
            until(lambda: at_work.counters().get("unsent.paused") == 1)
    finally:
        at_work.close()


def test_it_closes_twice(sending: RelayedGroup):
    sending.close()
    sending.close()
    assert not Path(sending.socket_path).exists()
