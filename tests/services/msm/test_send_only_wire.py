"""The wire of a host that sends to a group and is no member: it joins nothing, and hears nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey
from mcsa.policy import complete_policy
from mcsa.shell.local import connect
from mcsa.shell.local_frames import OutgoingFrame
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm.drivers import DriverSettings
from services.msm.drivers.relay import RelayedGroup
from services.msm.events import InstallEpoch, SendUnder, SetRoster
from services.msm.path import GroupPath, Received
from services.msm.wires import open_wire

ADDRESS = "127.0.0.1"
KEY, EPOCH, SENDER_ID = GroupKey(bytes(range(32))), 1_800_000_000_000, 9


def description(offset: int) -> GroupDescription:
    return GroupDescription(
        group_id=bytes([offset]) * 16,
        name="audio",
        address=f"239.255.77.{offset}",
        port=5004,
        policy=complete_policy(GroupPolicy()),
    )


@pytest.fixture
def group() -> GroupDescription:
    return description(21)


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def sending(group: GroupDescription, told: list[Any], tmp_path: Path) -> Iterator[RelayedGroup]:
    at_work = RelayedGroup(DriverSettings(ADDRESS, tmp_path), "example.org", group, told.append, send_only=True)
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


def test_members_open_what_it_sends_and_it_opens_nothing_that_they_do(
    sending: RelayedGroup, group: GroupDescription, told: list[Any]
):
    sending.control(traffic_key(group))
    member = GroupPath("example.org", group)
    member.carry_out(InstallEpoch(group.group_id, EPOCH, KEY), 0.0)
    member.carry_out(SetRoster(group.group_id, {SENDER_ID: ADDRESS}, None, None), 0.0)
    wire = open_wire(group, ADDRESS)
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
                somebody.sendto(bytes(100), (ADDRESS, 4500))
            until(lambda: sending.counters().get("unknown-sender"))
            application.setblocking(False)
            with pytest.raises(BlockingIOError):
                application.recv(100)
    finally:
        wire.close()
    assert not sending.counters().get("opened") and told == []


def test_it_is_in_no_multicast_group(sending: RelayedGroup, group: GroupDescription):
    packed = "".join(f"{int(part):02X}" for part in reversed(group.address.split(".")))
    assert packed not in Path("/proc/net/igmp").read_text().upper()
    wire = open_wire(group, ADDRESS)
    try:
        assert packed in Path("/proc/net/igmp").read_text().upper()
    finally:
        wire.close()


def test_nothing_is_said_before_there_is_a_key(sending: RelayedGroup):
    sending.engine.say([b"early"], 5004, 5004)
    assert sending.counters() == {"unsent.paused": 1}


def test_an_application_sends_by_udp_on_loopback_where_that_is_asked_for(
    group: GroupDescription, told: list[Any], tmp_path: Path
):
    settings = DriverSettings(ADDRESS, tmp_path, loopback={"audio": (40_815, 40_816)})
    at_work = RelayedGroup(settings, "example.org", group, told.append, send_only=True)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as application:
            application.sendto(b"early", (ADDRESS, 40_815))
            until(lambda: at_work.counters().get("unsent.paused") == 1)
    finally:
        at_work.close()


def test_it_closes_twice(sending: RelayedGroup):
    sending.close()
    sending.close()
    assert not Path(sending.socket_path).exists()
