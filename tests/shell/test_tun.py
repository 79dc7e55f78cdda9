"""A real TUN interface, and ordinary sockets as the applications, on a host of a laboratory."""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest

from mcsa.errors import Refused
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.shell import tun
from mcsa.shell.batches import SOL_UDP, UDP_SEGMENT
from mcsa.shell.tun import ADDRESS, FAR_END, Outgoing, TunInterface, physical_mtu

GROUP, OTHER_GROUP, GROUP_6 = "239.255.1.1", "239.255.1.2", "ff15::1:1"
SENDER = ip_address("203.0.113.9").packed  # no route leads there
IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTOS, IP_RECVTTL, PMTUDISC_DO = 10, 11, 13, 12, 2


@pytest.fixture
def host(laboratory: Laboratory) -> Host:
    return laboratory["alpha"]


@pytest.fixture(params=[True, False], ids=["offload", "one by one"])
def interface(request: pytest.FixtureRequest, host: Host) -> Iterator[TunInterface]:
    with host.inside():
        opened = TunInterface("mcsa7", 1_400, offload=request.param)
        opened.route(GROUP)
    yield opened
    opened.close()


def application(host: Host, group: str = "", port: int = 0) -> socket.socket:
    """An ordinary socket; with a group, one that joined it where the kernel thinks best."""
    with host.inside():
        door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if group:
            door.bind(("", port))
            door.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + bytes(4))
    door.settimeout(2)
    return door


def all_of(interface: TunInterface) -> list[Outgoing]:
    """What was sent to groups; the host's own kernel says things too, which are rejected."""
    found: list[Outgoing] = []
    deadline = time.monotonic() + 2
    while not found and time.monotonic() < deadline:
        found += interface.read()
    return found


def test_what_an_application_sends_is_read_as_it_was_sent(interface: TunInterface, host: Host) -> None:
    with application(host) as door:
        door.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xB8)
        door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 5)
        said = [bytes([number]) * (100 if number < 6 else 50) for number in range(9)]
        for payload in said:
            door.sendto(payload, (GROUP, 5004))
        read = all_of(interface)
        port = door.getsockname()[1]
    assert [payload for each in read for payload in each.payloads] == said
    assert [len(each.payloads) for each in read] == [6, 3]  # what is alike came together
    first = read[0].datagram
    assert (first.source, first.destination) == (ip_address(ADDRESS).packed, ip_address(GROUP).packed)
    assert (first.source_port, first.destination_port) == (port, 5004)
    assert (first.traffic_class, first.hop_limit) == (0xB8, 5)


def test_streams_stay_apart(interface: TunInterface, host: Host) -> None:
    with host.inside():
        interface.route(OTHER_GROUP)
    targets = [(GROUP, 5004), (GROUP, 5006), (OTHER_GROUP, 5004), (GROUP, 5004)]
    with application(host) as door:
        for target in targets:
            door.sendto(b"same size", target)
        read = all_of(interface)
    seen = [(str(ip_address(each.datagram.destination)), each.datagram.destination_port) for each in read]
    assert seen == targets


def test_many_datagrams_in_one_call(interface: TunInterface, host: Host) -> None:
    said = bytes(range(250)) * 181  # 45 segments of 1,000 bytes, and one of 250
    with application(host) as door:
        door.setsockopt(SOL_UDP, UDP_SEGMENT, 1_000)
        door.sendto(said, (GROUP, 5004))
        read = all_of(interface)
    assert b"".join(payload for each in read for payload in each.payloads) == said
    assert {len(payload) for each in read for payload in each.payloads} == {1_000, 250}
    assert len(read) == (1 if interface.offloaded else 2)


def test_applications_get_what_is_written(interface: TunInterface, host: Host) -> None:
    said = [bytes([number]) * size for number, size in enumerate([700] * 100 + [10, 0, 0, 1_300, 1_300])]
    with application(host, GROUP, 5004) as door:
        door.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
        door.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        interface.write(SENDER, ip_address(GROUP).packed, 6000, 5004, said, 0x88, 9)
        for payload in said:
            got, ancillary, _, source = door.recvmsg(2_000, 200)
            assert (got, source) == (payload, ("203.0.113.9", 6000))
            values = {kind: int.from_bytes(value, "little") for _, kind, value in ancillary}
            assert values == {socket.IP_TOS: 0x88, socket.IP_TTL: 9}
    assert interface.counters["undelivered"] == 0


def test_ipv6_both_ways(interface: TunInterface, host: Host) -> None:
    with host.inside():
        host.run(["ip", "address", "add", "2001:db8::1/64", "dev", host.interface, "nodad"])
        interface.route(GROUP_6)
        door = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        number = socket.if_nametoindex("mcsa7")
    said = [b"one", b"two", b"six"]
    try:
        with door:
            door.settimeout(2)
            door.bind(("", 5004))
            group = ip_address(GROUP_6).packed
            door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack("=I", number))
            interface.write(ip_address("2001:db8::9").packed, group, 6000, 5004, said, 0x88, 9)
            assert [door.recvfrom(100)[0] for _ in said] == said
            all_of(interface)
            for payload in said:
                door.sendto(payload, (GROUP_6, 5004))
            [read] = all_of(interface)
            assert (read.payloads, read.datagram.destination) == (said, group)
    finally:
        host.run(["ip", "address", "delete", "2001:db8::1/64", "dev", host.interface])


def test_an_application_that_asks_learns_what_fits(interface: TunInterface, host: Host) -> None:
    with host.inside():
        interface.route(GROUP, 1_200)
    with application(host) as door:
        door.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
        with pytest.raises(OSError, match="too long"):
            door.sendto(bytes(1_173), (GROUP, 5004))
        door.sendto(bytes(1_172), (GROUP, 5004))
        assert [len(payload) for each in all_of(interface) for payload in each.payloads] == [1_172]


def test_fragments_are_dropped_counted_and_told(interface: TunInterface, host: Host) -> None:
    with application(host) as door:
        door.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        door.connect((GROUP, 5004))  # so that the kernel knows whose answer it is
        door.send(bytes(3_000))
        assert all_of_rejected(interface, "fragment") == 3
        assert door.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EMSGSIZE


def all_of_rejected(interface: TunInterface, cause: str) -> int:
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        interface.read()
    return interface.counters[cause]


def test_memberships_and_what_is_no_udp_are_ignored(interface: TunInterface, host: Host) -> None:
    with application(host, GROUP, 5004), host.inside():
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, 99) as raw:
            raw.sendto(b"no UDP", (GROUP, 0))
        assert all_of_rejected(interface, "protocol") >= 2  # an IGMP report, and that


def test_packets_that_come_faster_than_they_are_read_are_counted(host: Host) -> None:
    with host.inside():
        opened = TunInterface("mcsa7", 1_400)
        try:
            opened.route(GROUP)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
                door.setsockopt(socket.SOL_SOCKET, 32, 64 << 20)  # SO_SNDBUFFORCE: what isn't read yet counts there
                sent = tun.QUEUE + 500
                for _ in range(sent):
                    door.sendto(b"x", (GROUP, 5004))
                read = sum(len(each.payloads) for each in opened.read(2 * sent))
                assert opened.dropped() >= 500 > 0
                assert read + opened.dropped() >= sent
        finally:
            opened.close()


def test_the_hosts_own_address_means_the_physical_interface(interface: TunInterface, host: Host) -> None:
    with application(host) as door:
        door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host.address))
        door.sendto(b"elsewhere", (GROUP, 5004))
        door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(ADDRESS))
        door.sendto(b"here", (GROUP, 5004))
        [read] = all_of(interface)
        assert read.payloads == [b"here"]
    assert FAR_END in host.run(["ip", "address", "show", "dev", "mcsa7"])


@pytest.mark.parametrize("ways", [["down", "up"], ["flush"], ["delete"]], ids=lambda ways: ways[0])
def test_what_an_administrator_took_is_put_back(interface: TunInterface, host: Host, ways: list[str]) -> None:
    commands = {
        "down": "link set mcsa7 down",
        "up": "link set mcsa7 up",
        "flush": "address flush dev mcsa7",
        "delete": "link delete mcsa7",
    }
    with host.inside(), application(host, GROUP, 5004) as hears, application(host) as says:
        interface.route(GROUP_6)
        interface.route(OTHER_GROUP, 1_200)
        assert not interface.restore()
        for way in ways:
            host.run(["ip", *commands[way].split()])
            if way == "down":
                assert not interface.restore()  # it is the administrator's to take up again
                assert interface.read() == []
        assert "mcsa7" not in host.run(["ip", "route", "get", GROUP])
        assert interface.restore()
        assert not interface.restore()
        for group in (GROUP, GROUP_6):
            assert "dev mcsa7" in host.run(["ip", "route", "get", group])
        assert "mtu 1200" in host.run(["ip", "route", "get", OTHER_GROUP])
        interface.write(SENDER, ip_address(GROUP).packed, 6000, 5004, [b"written"])
        assert hears.recv(100) == b"written"
        says.sendto(b"said", (GROUP, 5004))
        assert [payload for each in all_of(interface) for payload in each.payloads] == [b"said"]


def test_a_deleted_interface_reads_as_one_and_takes_no_packets(interface: TunInterface, host: Host) -> None:
    host.run(["ip", "link", "delete", "mcsa7"])
    with pytest.raises(OSError) as raised:
        interface.read()
    assert raised.value.errno == errno.EBADFD
    interface.write(SENDER, ip_address(GROUP).packed, 6000, 5004, [b"lost"])
    assert interface.counters["undelivered"] == 1
    with host.inside():
        other = TunInterface("mcsa7", 1_400)  # another process has taken its name
        with pytest.raises(Refused, match="in use by another"):
            interface.restore()
        other.close()
        assert interface.restore()


def test_the_mtu_is_that_of_the_interface_with_the_address(host: Host) -> None:
    with host.inside():
        host.run(["ip", "address", "add", "fe80::77/64", "dev", host.interface, "nodad"])
        found = [physical_mtu(each) for each in (host.address, f"fe80::77%{host.interface}", "fe80::77")]
        assert found == [1_500, 1_500, 1_500]
        with pytest.raises(Refused, match="No interface"):
            physical_mtu("fe80::77%lo")
        host.run(["ip", "address", "delete", "fe80::77/64", "dev", host.interface])


def test_it_can_have_another_mtu(interface: TunInterface, host: Host) -> None:
    with host.inside():
        interface.resize(1_300)
    with application(host) as door:
        door.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
        with pytest.raises(OSError, match="too long"):
            door.sendto(bytes(1_273), (GROUP, 5004))
        door.sendto(bytes(1_272), (GROUP, 5004))
        assert [len(payload) for each in all_of(interface) for payload in each.payloads] == [1_272]


def test_a_second_process_with_it_is_refused_and_a_closed_one_leaves_nothing(host: Host) -> None:
    with host.inside():
        opened = TunInterface("mcsa7", 1_400)
        with pytest.raises(Refused, match="in use by another"):
            TunInterface("mcsa7", 1_400)
        opened.route(GROUP)
        assert "mcsa7" in host.run(["ip", "route", "get", GROUP])
        opened.unroute(GROUP)
        opened.unroute(GROUP)
        assert "mcsa7" not in host.run(["ip", "route", "get", GROUP])
        opened.close()
        opened.close()
        assert "mcsa7" not in host.run(["ip", "link"])


@pytest.mark.parametrize("name", ["", "sixteen-letters-", "a/b", "two words"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="can't be an interface's name"):
        TunInterface(name, 1_400)


def test_without_the_device_or_the_right_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    with monkeypatch.context() as changed, pytest.raises(Refused, match="modprobe tun"):
        changed.setattr(tun, "DEVICE", Path("/dev/net/none"))
        TunInterface("mcsa7", 1_400)
    refused: list[str] = []

    def ask() -> None:
        with suppress(Refused):
            with without_capabilities():
                try:
                    TunInterface("mcsa7", 1_400)
                except Refused as error:
                    refused.append(error.sentence)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert refused and "CAP_NET_ADMIN" in refused[0]


class without_capabilities:  # noqa: N801 - reads as what it is
    """For this thread: none that are effective (capset(2))."""

    def __enter__(self) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        header = struct.pack("=Ii", 0x20080522, 0)
        assert libc.capset(header, bytes(24)) == 0

    def __exit__(self, *_: object) -> None:
        """The thread ends."""


def test_an_address_that_is_more_than_one_is_refused(interface: TunInterface, host: Host) -> None:
    """It goes into commands of a program that root runs."""
    with host.inside():
        for address in ("ff15::1%x\nlink add mcsa8 type dummy\n#", "239.1.1.1/8", "", "ff15::1%eth0"):
            with pytest.raises(Refused, match="no multicast address"):
                interface.route(address)
        assert "mcsa8" not in host.run(["ip", "link"])
