"""The `relay` driver with real sockets and threads, on two hosts of a laboratory."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mcsa.errors import Refused
from mcsa.esp.inner import MAX_PAYLOAD
from mcsa.keys import GroupKey
from mcsa.laboratory.namespaces import Laboratory
from mcsa.networks import Networks
from mcsa.policy import complete_policy
from mcsa.shell.cores import Cores
from mcsa.shell.local import connect
from mcsa.shell.local_batches import BatchedApplication
from mcsa.shell.local_frames import LARGEST_FRAME, OutgoingFrame, parse_incoming
from mcsa.updates import PORT as UPDATE_PORT
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm.drivers import DriverSettings, driver_named
from services.msm.drivers.relay import RelayDriver
from services.msm.events import GroupMessage, InstallEpoch, SetRoster, SwitchSending, UnknownEpochSeen
from services.msm.packet_process import COUNT_EVERY
from services.msm.packet_processes import PacketProcesses
from tests.services.msm.link import until

GROUP_ID, DOMAIN, EPOCH = bytes(range(16)), "example.org", 1_800_000_000_000
KEY, NEXT = GroupKey(bytes(32)), GroupKey(b"\1" * 32)


LOOPBACK = {"audio": (15_004, 15_006)}  # each host is a namespace of its own


def _described(address: str, wire: str = "udp") -> GroupDescription:
    policy = complete_policy(GroupPolicy(wire=wire))
    return GroupDescription(group_id=GROUP_ID, name="audio", address=address, port=5004, ttl=2, policy=policy)


class Side:
    """A relay on a host, and an application at its local socket."""

    def __init__(self, laboratory: Laboratory, name: str, number: int, folder: Path, group: str, how: str) -> None:
        host = laboratory[name]
        self.number = number
        self.told: list[Any] = []
        description = _described(group, "esp" if how == "IP protocol 50" else "udp")
        with host.inside():
            networks = Networks.only(host.address)
            settings = DriverSettings(networks, folder / name, offload=how != "one by one", loopback=LOOPBACK)
            self._driver = (
                PacketProcesses("relay", settings, 1) if how == "in a packet process" else RelayDriver(settings)
            )
            self.relay = self._driver.open(DOMAIN, description, self.told.append)
        laboratory.await_membership(host, group)
        self.application = connect(Path(self.relay.socket_path), socket.SOCK_SEQPACKET)
        self.application.settimeout(5.0)

    def key(self, addresses: dict[int, str], epoch: int = EPOCH, key: GroupKey = KEY) -> None:
        self.relay.control(InstallEpoch(GROUP_ID, epoch, key))
        self.relay.control(SetRoster(GROUP_ID, addresses, self.number, 9))
        self.relay.control(SwitchSending(GROUP_ID, epoch, self.number))
        time.sleep(0.1)

    def say(self, payload: bytes, port: int = 5004) -> None:
        self.application.send(OutgoingFrame(port, port, payload).encode())

    def hear(self) -> tuple[int, int, bytes]:
        frame = parse_incoming(self.application.recv(LARGEST_FRAME))
        return frame.sender_id, frame.destination_port, frame.payload

    def counters(self) -> Mapping[str, int]:
        if isinstance(self._driver, PacketProcesses):
            time.sleep(2 * COUNT_EVERY)
        return self.relay.counters()

    def close(self) -> None:
        self.application.close()
        self.relay.close()
        self._driver.close()


@pytest.fixture(params=["batches", "one by one", "IP protocol 50", "in a packet process"])
def sides(request: pytest.FixtureRequest, laboratory: Laboratory, tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    group = laboratory.plan.group(61)
    alpha = Side(laboratory, "alpha", 1, tmp_path, group, request.param)
    gamma = Side(laboratory, "gamma", 2, tmp_path, group, request.param)
    addresses = {1: laboratory["alpha"].address, 2: laboratory["gamma"].address, 9: laboratory["beta"].address}
    for side in (alpha, gamma):
        side.key(addresses)
    yield alpha, gamma
    alpha.close()
    gamma.close()


def test_what_an_application_sends_arrives_whole_in_order_at_the_others(sides: tuple[Side, Side]) -> None:
    alpha, gamma = sides
    said = [(5004 + 2 * (number // 50 % 2), os.urandom(20 + 7 * (number // 10 % 9))) for number in range(300)]
    for port, payload in said:
        alpha.say(payload, port)
    heard = [gamma.hear() for _ in said]
    assert heard == [(1, port, payload) for port, payload in said]
    gamma.say(b"and back")
    assert alpha.hear() == (2, 5004, b"and back")
    assert alpha.counters()["sent"] == len(said)
    assert gamma.counters()["opened"] == len(said)
    assert not [cause for cause in gamma.counters() if cause in ("replay", "integrity", "own")]


def test_applications_in_batches_and_in_frames_hear_one_another(sides: tuple[Side, Side]) -> None:
    alpha, gamma = sides
    said = [os.urandom(size) for size in [1_000] * 100 + [50] * 3 + [0, 7, 7]]
    with BatchedApplication(Path(alpha.relay.socket_path)) as speaker:
        with BatchedApplication(Path(gamma.relay.socket_path)) as hearer:
            hearer.socket.settimeout(5.0)
            hearer.send([b"here"], 5004, 5004)
            assert alpha.hear() == (2, 5004, b"here")  # so its MSM knows it, and that it asked for batches
            speaker.send(said, 5004, 6000)
            batches = [hearer.receive()]
            while sum(len(batch.payloads) for batch in batches) < len(said):
                batches.append(hearer.receive())
            assert {batch[:3] for batch in batches} == {(1, 6000, 5004)}
            assert [payload for batch in batches for payload in batch.payloads] == said
            assert [gamma.hear() for _ in said] == [(1, 5004, payload) for payload in said]
    assert alpha.counters()["sent"] == len(said)


def test_an_application_can_not_speak_as_the_authorizer_nor_send_rubbish(sides: tuple[Side, Side]) -> None:
    alpha, gamma = sides
    alpha.say(b"an update", UPDATE_PORT)
    alpha.application.send(b"x")
    alpha.say(b"after")
    assert gamma.hear() == (1, 5004, b"after")
    assert alpha.counters()["unsent.port"] == 1
    assert alpha.counters()["unsent.frame"] == 1
    assert not [event for event in gamma.told if isinstance(event, GroupMessage)]


def test_what_no_packet_has_room_for_is_not_sent_and_the_rest_goes_on(sides: tuple[Side, Side]) -> None:
    """A local socket, and UDP on loopback, take longer payloads than fit with all that is around them."""
    alpha, gamma = sides
    for size in (MAX_PAYLOAD, MAX_PAYLOAD + 1, LARGEST_FRAME - 4):  # the first is only more than this link takes
        alpha.say(bytes(size))
    alpha.say(b"after")
    assert gamma.hear()[2] == b"after"
    assert alpha.counters()["unsent.too-large"] == 3


def test_packets_of_an_epoch_that_is_still_to_come_wait_for_it(
    sides: tuple[Side, Side], laboratory: Laboratory
) -> None:
    alpha, gamma = sides
    addresses = {1: laboratory["alpha"].address, 2: laboratory["gamma"].address}
    alpha.key(addresses, EPOCH + 1, NEXT)
    for number in range(5):
        alpha.say(b"early %d" % number)
    until(lambda: [event for event in gamma.told if isinstance(event, UnknownEpochSeen)])
    gamma.relay.control(InstallEpoch(GROUP_ID, EPOCH + 1, NEXT))
    assert [gamma.hear()[2] for _ in range(5)] == [b"early %d" % number for number in range(5)]


def test_closing_disconnects_the_application(sides: tuple[Side, Side]) -> None:
    alpha, _ = sides
    alpha.relay.close()
    assert alpha.application.recv(10) == b""
    with pytest.raises(Refused):
        connect(Path(alpha.relay.socket_path), socket.SOCK_SEQPACKET)


def test_an_application_may_use_udp_on_loopback_where_that_is_asked_for(
    sides: tuple[Side, Side], laboratory: Laboratory
) -> None:
    _, gamma = sides
    send, deliver = LOOPBACK["audio"]
    with laboratory["alpha"].inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as application:
        application.bind(("127.0.0.1", deliver))
        application.settimeout(5.0)
        for number in range(40):
            application.sendto(b"media %d" % number, ("127.0.0.1", send))
        assert [gamma.hear() for _ in range(40)] == [(1, 5004, b"media %d" % number) for number in range(40)]
        gamma.say(b"control", 5005)  # not the announced port
        gamma.say(b"back")
        assert application.recv(100) == b"back"


def test_a_loopback_port_that_is_taken_is_refused_with_the_way_out(laboratory: Laboratory, tmp_path: Path) -> None:
    host, group = laboratory["alpha"], laboratory.plan.group(62)
    description = _described(group)
    with host.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", LOOPBACK["audio"][0]))
        driver = RelayDriver(DriverSettings(Networks.only(host.address), tmp_path, loopback=LOOPBACK))
        with pytest.raises(Refused, match="15004 of loopback is taken: choose another in `loopback`"):
            driver.open(DOMAIN, description, [].append)
        other.close()
        driver.open(DOMAIN, description, [].append).close()  # nothing was left behind


def test_without_loopback_in_the_configuration_nothing_listens_there(laboratory: Laboratory, tmp_path: Path) -> None:
    host, group = laboratory["alpha"], laboratory.plan.group(63)
    description = _described(group)
    with host.inside():
        opened = RelayDriver(DriverSettings(Networks.only(host.address), tmp_path)).open(DOMAIN, description, [].append)
        listening = host.run(["ss", "-Hulnp"])
        opened.close()
    assert ":4500" in listening
    assert "127.0.0.1" not in listening


def test_an_unknown_driver_is_refused_with_those_there_are() -> None:
    with pytest.raises(Refused, match="there is no driver 'carrier-pigeon'; there are: relay"):
        driver_named("carrier-pigeon")


def test_a_group_that_moved_goes_on_under_the_same_keys_and_numbers(
    sides: tuple[Side, Side], laboratory: Laboratory
) -> None:
    alpha, gamma = sides
    failed: list[Refused] = []
    alpha.say(b"before")
    assert gamma.hear()[2] == b"before"
    alpha.relay.move(laboratory["alpha"].address, failed.append)
    alpha.application.settimeout(0.2)
    for _ in range(50):  # until it has joined again
        gamma.say(b"are you there?")
        with suppress(TimeoutError):
            assert alpha.hear()[2] == b"are you there?"
            break
    else:
        pytest.fail("it was never heard again")
    alpha.say(b"after")
    assert gamma.hear()[2] == b"after"
    assert not failed


def test_what_fits_goes_in_one_piece_and_what_does_not_is_counted_and_cut_by_nobody(
    sides: tuple[Side, Side], laboratory: Laboratory
) -> None:
    alpha, gamma = sides
    interface = laboratory["alpha"].interface
    laboratory["alpha"].run(["ip", "link", "set", "dev", interface, "mtu", "1400"])
    try:
        with laboratory["alpha"].inside():  # as the MSM asks, from its own host
            largest = alpha.relay.largest_payload
        assert 1400 - 100 < largest < 1400
        alpha.say(bytes(largest))
        assert gamma.hear()[2] == bytes(largest)
        alpha.say(bytes(largest + 12))  # beyond what the wire without UDP has room for, too
        alpha.say(b"after")
        assert gamma.hear()[2] == b"after"
        assert alpha.counters()["unsent.too-large"] == 1
    finally:
        laboratory["alpha"].run(["ip", "link", "set", "dev", interface, "mtu", "1500"])


def test_threads_of_a_group_stay_on_the_cores_asked_for(laboratory: Laboratory, tmp_path: Path) -> None:
    host, core = laboratory["alpha"], max(os.sched_getaffinity(0))
    with host.inside():
        settings = DriverSettings(Networks.only(host.address), tmp_path / "sockets", cores=Cores([core]))
        relay = RelayDriver(settings).open(DOMAIN, _described(laboratory.plan.group(62)), [].append)
    try:
        threads = [thread for thread in threading.enumerate() if thread.name in ("receive audio", "send audio")]
        until = time.monotonic() + 5.0
        while (found := _cores_of(threads)) != [{core}] * 2:
            assert time.monotonic() < until, found
    finally:
        relay.close()


def _cores_of(threads: list[threading.Thread]) -> list[set[int]]:
    return [os.sched_getaffinity(thread.native_id or 0) for thread in threads]
