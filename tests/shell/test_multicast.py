"""Group sockets, on hosts in network namespaces; what needs no network, on loopback."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from mcsa.errors import Refused
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.laboratory.packets import (
    ALLOW,
    BLOCK,
    TO_EXCLUDE,
    TO_INCLUDE,
    GroupRecord,
    classify,
    parse_report,
)
from mcsa.shell.multicast import ESP_PORT, GroupSocket, Heard, MulticastListener, interface_addresses
from tests.laboratory.wire import WAITS_FOR, frames_until, is_fragment, tapped

Member = Callable[..., GroupSocket]
LOOPBACK = "127.0.0.1"
SAP_PORT = 9875
SAP_GROUP = "224.2.127.254"


def sender_on(host: Host, group: str) -> GroupSocket:
    with host.inside():
        return GroupSocket(group, ESP_PORT, host.address, bind_group=False)


def listener(laboratory: Laboratory, name: str, *groups: str, loop: bool = True) -> MulticastListener:
    with laboratory[name].inside():
        opened = MulticastListener(groups, SAP_PORT, laboratory[name].address, loop=loop)
    for group in groups:
        laboratory.await_membership(laboratory[name], group)
    return opened


def heard_by(listening: MulticastListener) -> Heard:
    while select.select([listening], [], [], WAITS_FOR)[0]:
        if heard := listening.receive():
            return heard
    pytest.fail("nothing heard")


@pytest.fixture
def member(laboratory: Laboratory) -> Member:
    """Opens a socket on a host, and waits until the network forwards the group to it."""

    def open_on(host: Host, group: str, *sources: str, ttl: int = 1, shared: bool = False) -> GroupSocket:
        with host.inside():
            opened = GroupSocket(group, ESP_PORT, host.address, sources, ttl, shared=shared)
        opened.socket.settimeout(WAITS_FOR)
        for source in sources or ("",):
            laboratory.await_membership(host, group, source)
        return opened

    return open_on


def received(opened: GroupSocket) -> tuple[bytes, str]:
    payload, (source, _) = opened.socket.recvfrom(2048)
    return payload, source


def nothing_waits(opened: GroupSocket) -> bool:
    return not select.select([opened], [], [], 0)[0]


def has(record: GroupRecord) -> Callable[[list[bytes]], bool]:
    return lambda frames: any(record in parse_report(frame) for frame in frames)


# On the wire


def test_any_source_join_and_leave_are_igmp_v3_reports(laboratory: Laboratory, member: Member) -> None:
    group = laboratory.plan.group(1)
    with tapped(laboratory["alpha"]) as tap:
        opened = member(laboratory["alpha"], group)
        joined = GroupRecord(TO_EXCLUDE, group, ())
        frames = frames_until(tap, has(joined))
        report = next(frame for frame in frames if joined in parse_report(frame))
        assert classify(report) == "igmp"
        assert report[30:34] == socket.inet_aton("224.0.0.22")  # RFC 3376 section 4.2.14
        opened.close()
        left = GroupRecord(TO_INCLUDE, group, ())
        assert has(left)(frames_until(tap, has(left)))


def test_source_specific_join_names_its_sources(laboratory: Laboratory, member: Member) -> None:
    group, gamma = "232.7.8.9", laboratory["gamma"].address
    with tapped(laboratory["alpha"]) as tap:
        opened = member(laboratory["alpha"], group, gamma)
        joined = GroupRecord(ALLOW, group, (gamma,))
        assert has(joined)(frames_until(tap, has(joined)))
        opened.close()
        left = GroupRecord(BLOCK, group, (gamma,))
        assert has(left)(frames_until(tap, has(left)))


def test_a_datagram_leaves_with_the_interfaces_address_and_the_ttl(laboratory: Laboratory, member: Member) -> None:
    group = laboratory.plan.group(2)
    with tapped(laboratory["alpha"]) as tap, member(laboratory["alpha"], group, ttl=7) as sender:
        sender.send(b"ttl")
        sent = next(f for f in frames_until(tap, lambda fs: "esp-udp" in map(classify, fs)) if classify(f) == "esp-udp")
        assert sent[22] == 7
        assert sent[26:30] == socket.inet_aton(laboratory["alpha"].address)


def test_only_members_are_sent_a_groups_datagrams(laboratory: Laboratory, member: Member) -> None:
    group = laboratory.plan.group(3)
    alpha, beta, mallory = laboratory["alpha"], laboratory["beta"], laboratory["mallory"]
    with tapped(mallory) as tap, member(alpha, group) as sender, member(beta, group) as receiver:
        for number in range(100):  # the bridge floods for 0.2 s after it is made, then prunes
            sender.send(b"%d" % number)
            assert received(receiver) == (b"%d" % number, alpha.address)
            if not [f for f in frames_now(tap) if classify(f) == "esp-udp"]:
                break
            select.select([], [], [], 0.05)
        else:
            pytest.fail("the bridge never pruned the group")


def frames_now(tap: socket.socket) -> list[bytes]:
    return frames_until(tap, lambda frames: True) + _drained(tap)


def _drained(tap: socket.socket) -> list[bytes]:
    frames = []
    while select.select([tap], [], [], 0)[0]:
        frames.append(tap.recv(65_536))
    return frames


# Who hears what


def test_two_groups_share_a_port_on_one_host_and_get_their_own_only(laboratory: Laboratory, member: Member) -> None:
    one, two = laboratory.plan.group(4), laboratory.plan.group(5)
    alpha, beta = laboratory["alpha"], laboratory["beta"]
    with (
        member(beta, one) as first,
        member(beta, two) as second,
        sender_on(alpha, one) as to_one,
        sender_on(alpha, two) as to_two,
    ):
        to_one.send(b"for one")
        to_two.send(b"for two")
        assert received(first) == (b"for one", alpha.address)
        assert received(second) == (b"for two", alpha.address)
        assert nothing_waits(first)
        assert nothing_waits(second)


def test_a_wrong_source_delivers_nothing(laboratory: Laboratory, member: Member) -> None:
    group = "232.7.8.10"
    alpha, beta, gamma = laboratory["alpha"], laboratory["beta"], laboratory["gamma"]
    with (
        member(beta, group, gamma.address, shared=True) as only_gamma,
        member(beta, group, gamma.address, alpha.address, shared=True) as both,
        sender_on(alpha, group) as wrong,
        sender_on(gamma, group) as right,
    ):
        wrong.send(b"from alpha")
        assert received(both) == (b"from alpha", alpha.address)  # it did arrive at the host
        right.send(b"from gamma")
        assert received(only_gamma) == (b"from gamma", gamma.address)
        assert nothing_waits(only_gamma)


def test_a_group_socket_gets_no_unicast(laboratory: Laboratory, member: Member) -> None:
    group = laboratory.plan.group(6)
    alpha, beta = laboratory["alpha"], laboratory["beta"]
    with member(beta, group) as receiver, member(alpha, group) as sender:
        with alpha.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unicast:
            unicast.sendto(b"unicast", (beta.address, ESP_PORT))
        sender.send(b"multicast")
        assert received(receiver)[0] == b"multicast"
        assert nothing_waits(receiver)


def test_with_loop_off_a_sender_hears_itself_only_through_a_reflecting_network(
    laboratory: Laboratory, member: Member
) -> None:
    group = laboratory.plan.group(7)
    alpha, reflected = laboratory["alpha"], laboratory["infrastructure"]
    with member(alpha, group) as plain, member(reflected, group) as mirrored:
        plain.send(b"from alpha")
        assert received(mirrored) == (b"from alpha", alpha.address)
        mirrored.send(b"reflected")
        assert received(mirrored) == (b"reflected", reflected.address)
        assert received(plain) == (b"reflected", reflected.address)  # and not its own
        laboratory.faults.drop_group(group)
        mirrored.send(b"lost")
        laboratory.faults.clear()
        mirrored.send(b"carried")
        assert received(mirrored)[0] == b"carried"


def test_with_loop_on_a_sender_hears_itself() -> None:
    with GroupSocket("239.255.127.1", 45_001, LOOPBACK, loop=True) as opened:
        opened.socket.settimeout(WAITS_FOR)
        opened.send(b"mine")
        assert received(opened) == (b"mine", LOOPBACK)


def test_a_listener_tells_group_and_source_and_drops_unicast(laboratory: Laboratory) -> None:
    other = "239.255.255.255"
    alpha, beta = laboratory["alpha"], laboratory["beta"]
    groups = (SAP_GROUP, other)
    with listener(laboratory, "beta", *groups) as hears, listener(laboratory, "alpha", *groups, loop=False) as speaks:
        with alpha.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unicast:
            unicast.sendto(b"unicast", (beta.address, SAP_PORT))
        speaks.send(b"one", SAP_GROUP)
        speaks.send(b"two", other)
        assert heard_by(hears) == Heard(b"one", alpha.address, SAP_PORT, SAP_GROUP)
        assert heard_by(hears) == Heard(b"two", alpha.address, SAP_PORT, other)
        assert hears.receive() is None


def test_the_interfaces_of_a_host(laboratory: Laboratory) -> None:
    with laboratory["gamma"].inside():
        assert interface_addresses() == {"lo": LOOPBACK, "eth0": laboratory["gamma"].address}


# What the kernel refuses


def limit(name: str) -> int:
    return int(Path(f"/proc/sys/net/ipv4/{name}").read_text())


def test_one_membership_too_many_names_the_limit() -> None:
    groups = [f"239.255.126.{number}" for number in range(1, limit("igmp_max_memberships") + 2)]
    with MulticastListener(groups[:-1], 45_002, LOOPBACK) as allowed:
        assert len(allowed.groups) == len(groups) - 1
    with pytest.raises(Refused, match=r"sysctl -w net\.ipv4\.igmp_max_memberships=") as refused:
        MulticastListener(groups, 45_002, LOOPBACK)
    assert refused.value.rule == "net.ipv4.igmp_max_memberships"


def test_one_source_too_many_names_the_limit() -> None:
    sources = [f"192.0.2.{number}" for number in range(1, limit("igmp_max_msf") + 2)]
    GroupSocket("232.7.8.11", 45_003, LOOPBACK, sources[:-1]).close()
    with pytest.raises(Refused, match=r"sysctl -w net\.ipv4\.igmp_max_msf=") as refused:
        GroupSocket("232.7.8.11", 45_003, LOOPBACK, sources)
    assert refused.value.rule == "net.ipv4.igmp_max_msf"


def test_an_address_of_another_host_is_refused() -> None:
    with pytest.raises(Refused, match="ip -4 address") as refused:
        GroupSocket("239.255.127.2", 45_004, "192.0.2.77")
    assert (refused.value.code, refused.value.rule) == ("multicast-socket", "interface address")


def test_a_taken_port_is_refused_unless_both_share_it() -> None:
    with GroupSocket("239.255.127.3", 45_005, LOOPBACK), pytest.raises(Refused, match="ss -ulpn") as refused:
        GroupSocket("239.255.127.3", 45_005, LOOPBACK)
    assert refused.value.rule == "port"
    with GroupSocket("239.255.127.3", 45_005, LOOPBACK, shared=True):
        GroupSocket("239.255.127.3", 45_005, LOOPBACK, shared=True).close()


@pytest.mark.parametrize(
    ("group", "rule"), [("192.0.2.1", "RFC 5771"), ("232.1.2.3", "RFC 4607")], ids=["unicast", "source-specific"]
)
def test_a_group_that_cant_be_joined_is_refused(group: str, rule: str) -> None:
    with pytest.raises(Refused) as refused:
        GroupSocket(group, 45_006, LOOPBACK)
    assert refused.value.rule == rule
    with pytest.raises(Refused):
        MulticastListener([group], 45_006, LOOPBACK)


def test_an_interface_that_is_down_names_the_command(laboratory: Laboratory, member: Member) -> None:
    gamma = laboratory["gamma"]
    with member(gamma, laboratory.plan.group(8)) as opened:
        gamma.run(["ip", "link", "set", "eth0", "down"])
        try:
            with pytest.raises(Refused, match="ip link set dev") as refused:
                opened.send(b"nowhere")
        finally:
            gamma.run(["ip", "link", "set", "eth0", "up"])
            gamma.run(["ip", "route", "add", "224.0.0.0/4", "dev", "eth0"])
    assert refused.value.rule == "route"


def test_a_packet_filter_is_named(laboratory: Laboratory, member: Member) -> None:
    gamma, group = laboratory["gamma"], laboratory.plan.group(9)
    with member(gamma, group) as opened:
        gamma.run(["nft", "add table ip t; add chain ip t o { type filter hook output priority 0; policy drop; }"])
        try:
            with pytest.raises(Refused, match="nft list ruleset"):
                opened.send(b"filtered")
        finally:
            gamma.run(["nft", "delete table ip t"])


def test_a_datagram_that_is_too_long_is_refused_and_other_errors_keep_the_kernels_words() -> None:
    with GroupSocket("239.255.127.4", 45_007, LOOPBACK) as opened:
        with pytest.raises(Refused, match="65,507"):
            opened.send(bytes(65_508))
    with GroupSocket("239.255.127.4", 0, LOOPBACK) as opened:
        with pytest.raises(Refused, match="errno 22") as refused:
            opened.send(b"to port 0")
    assert refused.value.rule == "kernel"


def test_a_datagram_longer_than_the_mtu_is_cut_or_refused(laboratory: Laboratory) -> None:
    alpha, group = laboratory["alpha"], laboratory.plan.group(72)
    with alpha.inside():
        cutting = GroupSocket(group, ESP_PORT, alpha.address, bind_group=False)
        whole = GroupSocket(group, ESP_PORT, alpha.address, bind_group=False, fragment=False)
    with tapped(alpha) as tap, cutting, whole:
        whole.send(bytes(1_400))
        with pytest.raises(Refused) as caught:
            whole.send(bytes(1_600))
        assert caught.value.rule == "datagram size"
        cutting.send(bytes(1_600))
        frames = frames_until(tap, lambda seen: sum(map(is_fragment, seen)) >= 2)
    assert sum(map(is_fragment, frames)) == 2


def test_closing_twice_and_large_buffers() -> None:
    opened = GroupSocket("239.255.127.5", 45_009, LOOPBACK)
    assert opened.receive_buffer >= min(8 << 20, 2 * int(Path("/proc/sys/net/core/rmem_max").read_text()))
    opened.close()
    opened.close()
    assert opened.fileno() == -1
