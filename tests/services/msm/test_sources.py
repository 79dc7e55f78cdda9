"""Source authentication with real sockets, threads and time, on two hosts of a laboratory."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcsa.keys import GroupKey
from mcsa.laboratory.namespaces import Laboratory
from mcsa.networks import Networks
from mcsa.policy import complete_policy
from mcsa.shell.clock import system_now, wall_clock_offset
from mcsa.shell.local import connect
from mcsa.shell.local_frames import LARGEST_FRAME, OutgoingFrame, parse_incoming
from mcsa.source_authentication import ClockBound, SourceKey, modes
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm import engine
from services.msm.drivers import DriverSettings
from services.msm.drivers.relay import RelayDriver
from services.msm.events import ClockSet, InstallEpoch, SetClock, SetRoster, SetSource, SourceForged, SwitchSending
from services.msm.largest import taken_inside
from services.msm.path import GroupPath
from tests.simulation.insider import forge

GROUP_ID, DOMAIN, EPOCH = bytes(range(16)), "example.org", 1_800_000_000_000
KEY = GroupKey(bytes(32))
MODES = [name for name, mode in modes().items() if mode.promises.authenticates]
PUBLISHED = {"none": 0, "signature": 64, "tree": 258, "tesla": 57}  # bytes


class Side:
    """A relay on a host, and an application at its local socket."""

    def __init__(self, laboratory: Laboratory, name: str, number: int, folder: Path, group: str, mode: str) -> None:
        self.host = laboratory[name]
        self.number, self.key, self.told = number, SourceKey(), list[Any]()
        # a loaded machine may take a second to bring a packet
        policy = complete_policy(
            GroupPolicy(source_authentication=mode, tesla_interval_ms=300, tesla_disclosure=5, source_block_ms=20)
        )
        self.description = GroupDescription(
            group_id=GROUP_ID, name="audio", address=group, port=5004, ttl=2, policy=policy
        )
        with self.host.inside():
            settings = DriverSettings(Networks.only(self.host.address), folder / name)
            self.relay = RelayDriver(settings).open(DOMAIN, self.description, self.told.append)
        laboratory.await_membership(self.host, group)
        self.application = connect(Path(self.relay.socket_path), socket.SOCK_SEQPACKET)
        self.application.settimeout(15.0)

    def begin(self, addresses: dict[int, str], keys: dict[int, bytes]) -> None:
        now = system_now()
        for effect in (
            InstallEpoch(GROUP_ID, EPOCH, KEY),
            SetRoster(GROUP_ID, addresses, self.number, None, source_keys=keys, announced=GROUP_ID),
            SetClock(GROUP_ID, ClockBound.by(now, now, now)),
            SetSource(GROUP_ID, self.number, self.key, GROUP_ID),
            SwitchSending(GROUP_ID, EPOCH, self.number),
        ):
            self.relay.control(effect)
        time.sleep(0.1)

    def say(self, payload: bytes) -> None:
        self.application.send(OutgoingFrame(5004, 5004, payload).encode())

    def hear(self) -> tuple[int, bytes]:
        frame = parse_incoming(self.application.recv(LARGEST_FRAME))
        return frame.sender_id, frame.payload

    def close(self) -> None:
        self.application.close()
        self.relay.close()


@pytest.fixture(params=MODES)
def sides(request: pytest.FixtureRequest, laboratory: Laboratory, tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    group = laboratory.plan.group(62)
    alpha = Side(laboratory, "alpha", 1, tmp_path, group, request.param)
    gamma = Side(laboratory, "gamma", 2, tmp_path, group, request.param)
    addresses, keys = {1: alpha.host.address, 2: gamma.host.address}, {1: alpha.key.public, 2: gamma.key.public}
    for side in (alpha, gamma):
        side.begin(addresses, keys)
    yield alpha, gamma
    alpha.close()
    gamma.close()


def test_what_is_said_is_heard_from_whom_it_is(sides: tuple[Side, Side]):
    alpha, gamma = sides
    words = [f"word {number}".encode() * (number % 9) for number in range(200)]
    for word in words:
        alpha.say(word)
    assert [gamma.hear() for _ in words] == [(1, word) for word in words]
    gamma.say(b"a single word that no other follows")
    assert alpha.hear() == (2, b"a single word that no other follows")


def test_a_forged_packet_is_told_with_its_evidence_and_not_heard(sides: tuple[Side, Side]):
    alpha, gamma = sides
    insider = GroupPath(DOMAIN, alpha.description)
    insider.carry_out(InstallEpoch(GROUP_ID, EPOCH, KEY), 0.0)
    forged = forge(insider, DOMAIN, 1, 70_000, b"\x09" + bytes(200))
    with alpha.host.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind((alpha.host.address, 0))
        door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(alpha.host.address))
        door.sendto(forged, (alpha.description.address, 4500))
    alpha.say(b"after it")
    assert gamma.hear() == (1, b"after it")
    (event,) = [each for each in gamma.told if isinstance(each, SourceForged)]
    assert event.packet == forged and event.origin == (1, EPOCH, 70_000)


@pytest.mark.parametrize("mode", modes())
def test_the_largest_payload_leaves_room_for_the_proof(mode: str):
    policy = complete_policy(GroupPolicy(source_authentication=mode))
    described = GroupDescription(address="239.255.0.1", policy=policy)
    assert taken_inside(described) == modes()[mode].overhead(policy) == PUBLISHED[mode]
    relayed = complete_policy(GroupPolicy(source_authentication=mode, gkm="iolus"))
    assert taken_inside(GroupDescription(policy=relayed)) == PUBLISHED[mode] + 16


@pytest.mark.parametrize("seconds", [-2.0, 2.0])
def test_where_the_hosts_clock_was_set_nothing_is_believed_nor_said_by_it(
    laboratory: Laboratory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Until the Authorizer is asked again. Back: forgeries under keys that are out would pass for safe; ahead: a source
    would tell its keys too soon."""
    group = laboratory.plan.group(63)
    alpha, gamma = (Side(laboratory, name, n, tmp_path, group, "tesla") for n, name in ((1, "alpha"), (2, "gamma")))
    addresses, keys = {1: alpha.host.address, 2: gamma.host.address}, {1: alpha.key.public, 2: gamma.key.public}
    for side in (alpha, gamma):
        side.begin(addresses, keys)
    alpha.say(b"before")
    assert gamma.hear() == (1, b"before")
    offset = wall_clock_offset()
    assert offset is not None
    monkeypatch.setattr(engine, "wall_clock_offset", lambda: offset + seconds)
    alpha.say(b"after")
    wait_for(lambda: alpha.relay.counters().get("unsent.clock") == 1)
    assert alpha.relay.counters()["clock-set"] == 1
    assert [each for each in alpha.told if isinstance(each, ClockSet)] == [ClockSet(GROUP_ID)]
    now = system_now()
    alpha.relay.control(SetClock(GROUP_ID, ClockBound.by(now, now, now)))  # the source has asked again; gamma hasn't
    wait_for(lambda: alpha.relay.engine.path.goes_by_clock)
    alpha.say(b"again")
    wait_for(lambda: gamma.relay.counters().get("source-clock", 0) > 0)
    assert gamma.relay.counters()["clock-set"] == 1
    gamma.relay.control(SetClock(GROUP_ID, ClockBound.by(now, now, now)))
    wait_for(lambda: gamma.relay.engine.path.goes_by_clock)
    alpha.say(b"at last")
    assert gamma.hear() == (1, b"at last")
    for side in (alpha, gamma):
        side.close()


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)
