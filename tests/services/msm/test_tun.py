"""The `tun` driver with ordinary sockets as the applications, on two hosts of a laboratory."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mcsa.errors import Refused
from mcsa.keys import GroupKey
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.networks import Networks
from mcsa.policy import complete_policy
from mcsa.shell.batches import SOL_UDP, UDP_SEGMENT
from mcsa.shell.local import connect
from mcsa.shell.local_frames import LARGEST_FRAME, OutgoingFrame, connect_frames, parse_incoming
from mcsa.shell.nftables import leftovers, table_name
from mcsa.shell.programs import run_program
from mcsa.shell.tun import FAR_END
from mcsa.updates import PORT as UPDATE_PORT
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm.drivers import DriverSettings, driver_named
from services.msm.drivers import tun as tun_driver
from services.msm.drivers.tun import TunDriver, TunnelledGroup
from services.msm.events import GroupMessage, InstallEpoch, SetRoster, SwitchSending
from services.msm.received import Received

DOMAIN, EPOCH, KEY = "example.org", 1_800_000_000_000, GroupKey(bytes(32))
INTERFACE = "mcsa7"
IP_MTU_DISCOVER, PMTUDISC_DO, IP_RECVTTL, IP_RECVTOS = 10, 2, 12, 13
HOSTS = {"alpha": 1, "gamma": 2}


class Side:
    """A host with the driver, and ordinary applications on it."""

    def __init__(self, laboratory: Laboratory, name: str, folder: Path, **settings: Any) -> None:
        self.laboratory = laboratory
        self.host: Host = laboratory[name]
        self.number = HOSTS[name]
        self.told: list[Any] = []
        self._exits = ExitStack()
        with self.host.inside():
            self.driver = TunDriver(
                DriverSettings(Networks.only(self.address(name)), folder / name, interface=INTERFACE, **settings)
            )
        self._exits.callback(self.inside, self.driver.close)

    def address(self, name: str) -> str:
        """Of a host, as rosters have it."""
        return self.laboratory[name].address

    def group(self, number: int) -> str:
        return self.laboratory.plan.group(number)

    def inside(self, do: Callable[[], Any]) -> Any:
        with self.host.inside():
            return do()

    def open(self, number: int, name: str = "audio", **policy: Any) -> TunnelledGroup:
        """The group with this number, keyed, and on the bridge."""
        group_id, address = bytes([number]) * 16, self.group(number)
        description = GroupDescription(
            group_id=group_id,
            name=name,
            address=address,
            port=5004,
            ttl=8,
            policy=complete_policy(GroupPolicy(**policy)),
        )
        opened: TunnelledGroup = self.inside(lambda: self.driver.open(DOMAIN, description, self.told.append))
        self._exits.callback(self.inside, opened.close)
        self.laboratory.await_membership(self.host, address)
        addresses = {sender: self.address(name) for name, sender in HOSTS.items()}
        opened.control(InstallEpoch(group_id, EPOCH, KEY))
        opened.control(SetRoster(group_id, addresses, self.number, 9))
        opened.control(SwitchSending(group_id, EPOCH, self.number))
        return opened

    def application(self, group: int = 0, port: int = 5004, physical: bool = False) -> socket.socket:
        """An ordinary socket; with a group, one that joined it. `physical`: one that picks that interface."""
        with self.host.inside():
            door = self._exits.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            index = socket.if_nametoindex(self.host.interface) if physical else 0
            if physical:
                picked = struct.pack("=4s4si", bytes(4), bytes(4), index)
                door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, picked)
            if group:
                door.bind(("", port))
                address = socket.inet_aton(self.laboratory.plan.group(group))
                membership = struct.pack("=4s4si", address, bytes(4), index)
                door.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        door.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        door.settimeout(2)
        return door

    def close(self) -> None:
        self._exits.close()


@pytest.fixture(params=["offload", "one by one"])
def sides(request: pytest.FixtureRequest, laboratory: Laboratory, tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    made = [Side(laboratory, name, tmp_path, offload=request.param == "offload") for name in HOSTS]
    yield made[0], made[1]
    for side in made:
        side.close()


@pytest.fixture
def two(laboratory: Laboratory, tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    made = [Side(laboratory, name, tmp_path) for name in HOSTS]
    yield made[0], made[1]
    for side in made:
        side.close()


def heard(door: socket.socket) -> bytes | None:
    door.settimeout(0.3)
    try:
        return door.recv(65_535)
    except TimeoutError:
        return None


@pytest.mark.parametrize("wire", ["udp", "esp"])
def test_applications_of_two_hosts_speak_and_hear(sides: tuple[Side, Side], laboratory: Laboratory, wire: str) -> None:
    alpha, gamma = sides
    opened = [side.open(81, wire=wire) for side in sides]
    target = laboratory.plan.group(81), 5004
    listening, speaking = gamma.application(81), alpha.application()
    said = [os.urandom(50 + 3 * (number // 20 % 7)) for number in range(300)]
    for payload in said:
        speaking.sendto(payload, target)
    port = speaking.getsockname()[1]
    got = [listening.recvfrom(2_000) for _ in said]
    assert got == [(payload, (alpha.host.address, port)) for payload in said]
    listening_too = alpha.application(81)
    listening.sendto(b"and back, from where it listens", target)
    assert listening_too.recvfrom(100) == (b"and back, from where it listens", (gamma.host.address, 5004))
    assert opened[0].counters()["sent"] == len(said) and opened[1].counters()["opened"] == len(said)


def test_an_application_with_segmentation_offload(sides: tuple[Side, Side], laboratory: Laboratory) -> None:
    alpha, gamma = sides
    for side in sides:
        side.open(81)
    listening, speaking = gamma.application(81), alpha.application()
    speaking.setsockopt(SOL_UDP, UDP_SEGMENT, 1_400)
    said = [os.urandom(1_400 * 46 - 5) for _ in range(20)]
    for payload in said:
        speaking.sendto(payload, (laboratory.plan.group(81), 5004))
    got = [listening.recv(2_000) for _ in range(20 * 46)]
    assert b"".join(got) == b"".join(said)
    assert {len(payload) for payload in got} == {1_400, 1_395}


def test_several_groups_and_ports_at_once(two: tuple[Side, Side], laboratory: Laboratory) -> None:
    alpha, gamma = two
    doors = []
    for group in (82, 83):
        for side in two:
            side.open(group)
        doors += [(group, port, gamma.application(group, port)) for port in (5004 + group, 6004 + group)]
    speaking = alpha.application()
    for round_ in range(50):
        for group, port, _ in doors:
            speaking.sendto(b"%d %d %d" % (group, port, round_), (laboratory.plan.group(group), port))
    for group, port, door in doors:
        assert [door.recv(100) for _ in range(50)] == [b"%d %d %d" % (group, port, round_) for round_ in range(50)]


def test_markings_pass_through_and_the_groups_ttl_is_the_limit(
    sides: tuple[Side, Side], laboratory: Laboratory
) -> None:
    alpha, gamma = sides
    for side in sides:
        side.open(81)
    listening, speaking = gamma.application(81), alpha.application()
    listening.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
    listening.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
    for tos, ttl, arrives in ((0xB8, 5, 5), (0, 64, 8), (0x22, 1, 1)):
        speaking.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
        speaking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        speaking.sendto(b"marked", (laboratory.plan.group(81), 5004))
        _, ancillary, _, _ = listening.recvmsg(100, 200)
        values = {kind: int.from_bytes(value, "little") for _, kind, value in ancillary}
        assert values == {socket.IP_TOS: tos, socket.IP_TTL: arrives}
    speaking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
    speaking.sendto(b"stays here", (laboratory.plan.group(81), 5004))
    assert heard(listening) is None


def test_local_sockets_serve_beside_it(two: tuple[Side, Side], laboratory: Laboratory) -> None:
    alpha, gamma = two
    opened = [side.open(81) for side in two]
    with (
        connect_frames(Path(opened[0].socket_path)) as local,
        connect_frames(Path(opened[1].socket_path)) as other,
    ):
        other.settimeout(2)
        listening = gamma.application(81)
        local.send(OutgoingFrame(5004, 7000, b"by the local socket").encode())
        assert listening.recvfrom(100) == (b"by the local socket", (alpha.host.address, 7000))
        assert parse_incoming(other.recv(LARGEST_FRAME)).payload == b"by the local socket"
        alpha.application().sendto(b"by the interface", (laboratory.plan.group(81), 5004))
        frame = parse_incoming(other.recv(LARGEST_FRAME))
        assert (frame.sender_id, frame.payload) == (1, b"by the interface")


class Side6(Side):
    """The same over IPv6."""

    def address(self, name: str) -> str:
        return self.laboratory[name].address6

    def group(self, number: int) -> str:
        return self.laboratory.plan.group6(number)


@pytest.mark.parametrize("wire", ["udp", "esp"])
def test_ipv6_all_the_same(laboratory: Laboratory, tmp_path: Path, wire: str) -> None:
    with ExitStack() as exits:
        made = [Side6(laboratory, name, tmp_path) for name in HOSTS]
        for side in made:
            exits.callback(side.close)
        opened = [side.open(88, wire=wire) for side in made]
        alpha, gamma = made
        group, doors = alpha.group(88), []
        for side in made:
            with side.host.inside():
                door = exits.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
                door.settimeout(2)
                if side is gamma:
                    door.bind(("", 5004))  # and joins where the kernel thinks best
                    request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("=i", 0)
                    door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
                doors.append(door)
        speaking, listening = doors
        listening.setsockopt(socket.IPPROTO_IPV6, 66, 1)  # IPV6_RECVTCLASS
        speaking.setsockopt(socket.IPPROTO_IPV6, 67, 0xB8)  # IPV6_TCLASS
        speaking.connect((group, 5004))
        said = [os.urandom(20 + 3 * (number // 20 % 7)) for number in range(100)]
        for payload in said:
            speaking.send(payload)
        port = speaking.getsockname()[1]
        for payload in said:
            got, ancillary, _, source = listening.recvmsg(2_000, 100)
            assert (got, source[:2]) == (payload, (alpha.host.address6, port))
            assert [int.from_bytes(value, "little") for _, _, value in ancillary] == [0xB8]
        assert opened[1].counters()["opened"] == len(said)
        speaking.setsockopt(socket.IPPROTO_IPV6, 23, PMTUDISC_DO)  # IPV6_MTU_DISCOVER
        fits = alpha.inside(lambda: opened[0].largest_payload)
        with pytest.raises(OSError, match="too long"):
            speaking.send(bytes(fits + 1))
        speaking.send(bytes(fits))
        assert listening.recv(2_000) == bytes(fits)


# ---- plaintext


def plain_from_beta(laboratory: Laboratory, group: int, port: int = 5004) -> None:
    """Somebody on the LAN, who is no member, says something to the group in the clear."""
    beta = laboratory["beta"]
    with beta.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.sendto(b"plaintext", (laboratory.plan.group(group), port))


@pytest.mark.parametrize("rules", [True, False], ids=["with rules", "without, on purpose"])
def test_plaintext_on_the_lan_does_not_reach_an_application(
    two: tuple[Side, Side], laboratory: Laboratory, rules: bool
) -> None:
    _, gamma = two
    opened = gamma.open(84)
    listening, physical = gamma.application(84), gamma.application(84, 5006, physical=True)
    if not rules:
        with gamma.host.inside():
            gamma.driver.firewall.close()
    plain_from_beta(laboratory, 84)
    plain_from_beta(laboratory, 84, 5006)
    expected = None if rules else b"plaintext"
    assert [heard(listening), heard(physical)] == [expected, expected]
    assert "opened" not in opened.counters()


@pytest.mark.parametrize("rules", [True, False], ids=["with rules", "without, on purpose"])
def test_an_application_that_picks_the_physical_interface_sends_nothing(
    two: tuple[Side, Side], laboratory: Laboratory, rules: bool
) -> None:
    alpha, _ = two
    alpha.open(84)
    beta = laboratory["beta"]
    with beta.inside():
        listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listening.bind(("", 5004))
        group = socket.inet_aton(laboratory.plan.group(84))
        listening.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + bytes(4))
    laboratory.await_membership(beta, laboratory.plan.group(84))
    if not rules:
        with alpha.host.inside():
            alpha.driver.firewall.close()
    speaking = alpha.application(physical=True)
    with listening:
        try:
            speaking.sendto(b"plaintext", (laboratory.plan.group(84), 5004))
        except PermissionError:
            assert rules
        assert heard(listening) == (None if rules else b"plaintext")


def test_who_goes_on_talking_after_the_group_closed_is_not_heard_in_the_clear(
    two: tuple[Side, Side], laboratory: Laboratory
) -> None:
    alpha, _ = two
    opened = alpha.open(84)
    speaking, target = alpha.application(), (laboratory.plan.group(84), 5004)
    speaking.sendto(b"sealed", target)
    with alpha.host.inside():
        opened.close()
        assert alpha.host.interface in alpha.host.run(["ip", "route", "get", target[0]])
    with pytest.raises(PermissionError):
        speaking.sendto(b"plaintext", target)


def test_rules_that_somebody_flushed_come_back(
    monkeypatch: pytest.MonkeyPatch, laboratory: Laboratory, tmp_path: Path
) -> None:
    monkeypatch.setattr(tun_driver, "CHECK_EVERY", 0.05)
    alpha = Side(laboratory, "alpha", tmp_path)
    try:
        opened = alpha.open(84)
        with alpha.host.inside():
            run_program(["nft", "delete", "table", "inet", table_name(INTERFACE)], "test")
            deadline = time.monotonic() + 5
            while not opened.counters().get("tun.rules-restored") and time.monotonic() < deadline:
                time.sleep(0.02)
            assert alpha.driver.firewall.protected() == {laboratory.plan.group(84)}
    finally:
        alpha.close()


def test_what_fits_follows_the_interface_that_the_host_moved_to(two: tuple[Side, Side]) -> None:
    alpha, _ = two
    opened = alpha.open(84)
    speaking = alpha.application()
    speaking.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
    try:
        for mtu in (1_300, 1_500):
            alpha.host.run(["ip", "link", "set", alpha.host.interface, "mtu", str(mtu)])
            alpha.inside(lambda: alpha.driver.move(Networks.only(alpha.host.address)))
            fits = alpha.inside(lambda: opened.largest_payload)
            speaking.sendto(bytes(fits), (opened.address, 5004))
            with pytest.raises(OSError, match="too long"):
                speaking.sendto(bytes(fits + 1), (opened.address, 5004))
            alpha.inside(
                lambda: alpha.driver.move(Networks.only("198.51.100.1"))
            )  # gone again meanwhile: nothing happens
    finally:
        alpha.host.run(["ip", "link", "set", alpha.host.interface, "mtu", "1500"])


def test_without_rules_or_a_network_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch, laboratory: Laboratory, tmp_path: Path
) -> None:
    alpha = laboratory["alpha"]
    settings = DriverSettings(Networks.only(alpha.address), tmp_path, interface=INTERFACE)

    def refused(*_: object) -> None:
        raise Refused("nftables", "nft", "no such thing in this kernel; choose another driver")

    with monkeypatch.context() as changed, alpha.inside(), pytest.raises(Refused, match="no such thing"):
        changed.setattr(tun_driver, "GroupFirewall", refused)
        TunDriver(settings)
    assert INTERFACE not in alpha.run(["ip", "link"])
    with pytest.raises(Refused, match="choose driver"):
        TunDriver(DriverSettings(Networks.only("127.0.0.1"), tmp_path))
    with alpha.inside(), pytest.raises(Refused, match="No interface of this host"):
        TunDriver(DriverSettings(Networks.only("198.51.100.1"), tmp_path, interface=INTERFACE))


def test_it_is_found_by_name_and_leaves_nothing(laboratory: Laboratory, tmp_path: Path) -> None:
    assert driver_named("tun") is TunDriver
    alpha = Side(laboratory, "alpha", tmp_path)
    alpha.open(84)
    alpha.close()
    alpha.close()
    with alpha.host.inside():
        assert leftovers() == []
        assert INTERFACE not in alpha.host.run(["ip", "link"]) + alpha.host.run(["ip", "route"])
        assert table_name(INTERFACE) not in alpha.host.run(["nft", "list", "tables"])


# ---- what applications may not


def test_what_an_application_may_not_send_is_counted(two: tuple[Side, Side], laboratory: Laboratory) -> None:
    alpha, gamma = two
    opened = [side.open(85) for side in two]
    target = laboratory.plan.group(85)
    listening, speaking = gamma.application(85), alpha.application()
    with alpha.host.inside():
        for other in ("10.9.9.9", target):  # a source that is not this host's, and a destination that is no group's
            header = struct.pack(
                ">BBHHHBBH4s4s",
                *(0x45, 0, 0, 0, 0, 1, 17, 0),
                socket.inet_aton("10.1.2.3" if other == target else "0.0.0.0"),
                socket.inet_aton(other),
            )
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, INTERFACE.encode())
                raw.sendto(header + struct.pack(">HHHH", 1, 5004, 12, 0) + b"fake", (other, 0))
    speaking.sendto(b"an update?", (target, UPDATE_PORT))
    speaking.sendto(bytes(4_000), (target, 5004))
    speaking.sendto(b"the last", (target, 5004))
    assert listening.recv(5_000) == b"the last"
    with alpha.host.inside():
        counted = opened[0].counters()
    assert counted["sent"] == 1
    assert (counted["tun.foreign-source"], counted["tun.no-group"], counted["unsent.port"]) == (1, 1, 1)
    assert counted["tun.fragment"] == 3
    assert not [event for event in gamma.told if isinstance(event, GroupMessage)]


def test_the_control_group_is_not_the_applications(two: tuple[Side, Side], laboratory: Laboratory) -> None:
    alpha, gamma = two
    opened = [side.open(86, "control") for side in two]
    listening = gamma.application(86)
    with pytest.raises(PermissionError):  # it would leave by the physical interface
        alpha.application().sendto(b"a vote?", (laboratory.plan.group(86), 5004))
    assert heard(listening) is None
    with connect(Path(opened[0].socket_path), socket.SOCK_SEQPACKET) as csm:
        csm.send(OutgoingFrame(5004, 5004, b"the CSM's").encode())
        assert heard(listening) is None
        assert opened[0].counters()["sent"] == 1


def test_what_fits_is_told_and_nothing_is_fragmented(two: tuple[Side, Side], laboratory: Laboratory) -> None:
    """1,500 bytes on the wire: IP 20, UDP 8, ESP 16 before, 16 after, inside a whole number of words."""
    alpha, gamma = two
    opened = [side.open(85) for side in two]
    target = laboratory.plan.group(85), 5004
    listening, speaking = gamma.application(85), alpha.application()
    speaking.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
    with pytest.raises(OSError, match="too long"):
        speaking.sendto(bytes(1_431), target)
    speaking.sendto(bytes(1_430), target)
    assert listening.recv(2_000) == bytes(1_430)
    with connect(Path(opened[0].socket_path), socket.SOCK_SEQPACKET) as local:
        local.send(OutgoingFrame(5004, 5004, bytes(3_000)).encode())
        local.send(OutgoingFrame(5004, 5004, b"after").encode())
        assert listening.recv(2_000) == b"after"
    assert opened[0].counters()["unsent.too-large"] == 1


def test_a_group_with_relaying_agents_leaves_room_for_the_origin(
    two: tuple[Side, Side], laboratory: Laboratory
) -> None:
    two[0].open(85, gkm="iolus")
    speaking = two[0].application()
    speaking.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
    with pytest.raises(OSError, match="too long"):
        speaking.sendto(bytes(1_415), (laboratory.plan.group(85), 5004))
    speaking.sendto(bytes(1_414), (laboratory.plan.group(85), 5004))


def test_who_is_heard_through_this_hosts_own_relaying_has_the_far_ends_address(
    two: tuple[Side, Side], laboratory: Laboratory
) -> None:
    """A relaying agent hears other subgroups' senders on the backbone, whose roster says where they are."""
    _, gamma = two
    opened = gamma.open(85, gkm="iolus")
    listening = gamma.application(85)
    opened.engine.deliver([Received(77, 6000, 5004, b"from elsewhere", EPOCH, 1)])
    assert listening.recvfrom(100) == (b"from elsewhere", (FAR_END, 6000))
