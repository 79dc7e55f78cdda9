"""Group sockets, on hosts in network namespaces; what needs no network, on loopback."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

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
    parse_packet,
    parse_report,
)
from mcsa.shell.batches import BatchSender
from mcsa.shell.interfaces import interface_addresses, interface_addresses6
from mcsa.shell.multicast import ESP_PORT, GroupSocket, Heard, MulticastListener
from tests.laboratory.wire import WAITS_FOR, frames_until, is_fragment, tapped

Member = Callable[..., GroupSocket]
LOOPBACK = "127.0.0.1"
SAP_PORT = 9875
SAP_GROUP = "224.2.127.254"


class Family(NamedTuple):
    """What differs between the tests' runs with IPv4 and IPv6."""

    version: int
    group: Callable[[Laboratory, int], str]
    source_specific: str  # without its last part
    sap_groups: tuple[str, str]

    def own(self, host: Host) -> str:
        """The host's own address."""
        return host.address if self.version == 4 else host.address6


IPV4 = Family(4, lambda laboratory, number: laboratory.plan.group(number), "232.7.8.", (SAP_GROUP, "239.255.255.255"))
IPV6 = Family(
    6, lambda laboratory, number: laboratory.plan.group6(number), "ff35::8000:", ("ff0e::2:7ffe", "ff05::2:7ffe")
)


@pytest.fixture(params=[IPV4, IPV6], ids=["IPv4", "IPv6"])
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


def own(host: Host, group: str) -> str:
    return (IPV6 if ":" in group else IPV4).own(host)


def sender_on(host: Host, group: str) -> GroupSocket:
    with host.inside():
        return GroupSocket(group, ESP_PORT, own(host, group), bind_group=False)


def listener(laboratory: Laboratory, name: str, *groups: str, loop: bool = True) -> MulticastListener:
    with laboratory[name].inside():
        opened = MulticastListener(groups, SAP_PORT, own(laboratory[name], groups[0]), loop=loop)
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
            opened = GroupSocket(group, ESP_PORT, own(host, group), sources, ttl, shared=shared)
        opened.socket.settimeout(WAITS_FOR)
        for source in sources or ("",):
            laboratory.await_membership(host, group, source)
        return opened

    return open_on


def received(opened: GroupSocket) -> tuple[bytes, str]:
    payload, source = opened.socket.recvfrom(2048)
    return payload, source[0]


def nothing_waits(opened: GroupSocket) -> bool:
    return not select.select([opened], [], [], 0)[0]


def has(record: GroupRecord) -> Callable[[list[bytes]], bool]:
    return lambda frames: any(record in parse_report(frame) for frame in frames)


# On the wire


def test_any_source_join_and_leave_are_igmp_v3_or_mld_v2_reports(
    laboratory: Laboratory, member: Member, family: Family
) -> None:
    group = family.group(laboratory, 1)
    with tapped(laboratory["alpha"]) as tap:
        opened = member(laboratory["alpha"], group)
        joined = GroupRecord(TO_EXCLUDE, group, ())
        frames = frames_until(tap, has(joined))
        report = next(frame for frame in frames if joined in parse_report(frame))
        packet = parse_packet(report)
        assert packet is not None
        # RFC 3376 section 4.2.14, RFC 3810 section 5.2.14
        expected = ("igmp", "224.0.0.22") if family.version == 4 else ("mld", "ff02::16")
        assert (classify(report), packet.destination) == expected
        opened.close()
        left = GroupRecord(TO_INCLUDE, group, ())
        assert has(left)(frames_until(tap, has(left)))


def test_source_specific_join_names_its_sources(laboratory: Laboratory, member: Member, family: Family) -> None:
    group, gamma = f"{family.source_specific}9", family.own(laboratory["gamma"])
    with tapped(laboratory["alpha"]) as tap:
        opened = member(laboratory["alpha"], group, gamma)
        joined = GroupRecord(ALLOW, group, (gamma,))
        assert has(joined)(frames_until(tap, has(joined)))
        opened.close()
        left = GroupRecord(BLOCK, group, (gamma,))
        assert has(left)(frames_until(tap, has(left)))


def test_a_datagram_leaves_with_the_interfaces_address_and_the_ttl(
    laboratory: Laboratory, member: Member, family: Family
) -> None:
    group = family.group(laboratory, 2)
    with tapped(laboratory["alpha"]) as tap, member(laboratory["alpha"], group, ttl=7) as sender:
        sender.send(b"ttl")
        sent = next(f for f in frames_until(tap, lambda fs: "esp-udp" in map(classify, fs)) if classify(f) == "esp-udp")
        packet = parse_packet(sent)
        assert packet is not None
        assert packet.source == family.own(laboratory["alpha"])
        assert sent[22 if family.version == 4 else 21] == 7  # RFC 791 section 3.1, RFC 8200 section 3


def test_only_members_are_sent_a_groups_datagrams(laboratory: Laboratory, member: Member, family: Family) -> None:
    group = family.group(laboratory, 3)
    alpha, beta, mallory = laboratory["alpha"], laboratory["beta"], laboratory["mallory"]
    with tapped(mallory) as tap, member(alpha, group) as sender, member(beta, group) as receiver:
        for number in range(100):  # the bridge floods for 0.2 s after it is made, then prunes
            sender.send(b"%d" % number)
            assert received(receiver) == (b"%d" % number, family.own(alpha))
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


def test_two_groups_share_a_port_on_one_host_and_get_their_own_only(
    laboratory: Laboratory, member: Member, family: Family
) -> None:
    one, two = family.group(laboratory, 4), family.group(laboratory, 5)
    alpha, beta = laboratory["alpha"], laboratory["beta"]
    with (
        member(beta, one) as first,
        member(beta, two) as second,
        sender_on(alpha, one) as to_one,
        sender_on(alpha, two) as to_two,
    ):
        to_one.send(b"for one")
        to_two.send(b"for two")
        assert received(first) == (b"for one", family.own(alpha))
        assert received(second) == (b"for two", family.own(alpha))
        assert nothing_waits(first)
        assert nothing_waits(second)


def test_a_wrong_source_delivers_nothing(laboratory: Laboratory, member: Member, family: Family) -> None:
    group = f"{family.source_specific}10"
    alpha, beta, gamma = laboratory["alpha"], laboratory["beta"], laboratory["gamma"]
    with (
        member(beta, group, family.own(gamma), shared=True) as only_gamma,
        member(beta, group, family.own(gamma), family.own(alpha), shared=True) as both,
        sender_on(alpha, group) as wrong,
        sender_on(gamma, group) as right,
    ):
        wrong.send(b"from alpha")
        assert received(both) == (b"from alpha", family.own(alpha))  # it did arrive at the host
        right.send(b"from gamma")
        assert received(only_gamma) == (b"from gamma", family.own(gamma))
        assert nothing_waits(only_gamma)


def test_a_group_socket_gets_no_unicast(laboratory: Laboratory, member: Member, family: Family) -> None:
    group = family.group(laboratory, 6)
    alpha, beta = laboratory["alpha"], laboratory["beta"]
    with member(beta, group) as receiver, member(alpha, group) as sender:
        kind = socket.AF_INET if family.version == 4 else socket.AF_INET6
        with alpha.inside(), socket.socket(kind, socket.SOCK_DGRAM) as unicast:
            unicast.sendto(b"unicast", (family.own(beta), ESP_PORT))
        sender.send(b"multicast")
        assert received(receiver)[0] == b"multicast"
        assert nothing_waits(receiver)


def test_with_loop_off_a_sender_hears_itself_only_through_a_reflecting_network(
    laboratory: Laboratory, member: Member, family: Family
) -> None:
    group = family.group(laboratory, 7)
    alpha, reflected = laboratory["alpha"], laboratory["infrastructure"]
    with member(alpha, group) as plain, member(reflected, group) as mirrored:
        plain.send(b"from alpha")
        assert received(mirrored) == (b"from alpha", family.own(alpha))
        mirrored.send(b"reflected")
        assert received(mirrored) == (b"reflected", family.own(reflected))
        assert received(plain) == (b"reflected", family.own(reflected))  # and not its own
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


def test_a_listener_tells_group_and_source_and_drops_unicast(laboratory: Laboratory, family: Family) -> None:
    alpha, beta, groups = laboratory["alpha"], laboratory["beta"], family.sap_groups
    source = family.own(alpha)
    with listener(laboratory, "beta", *groups) as hears, listener(laboratory, "alpha", *groups, loop=False) as speaks:
        kind = socket.AF_INET if family.version == 4 else socket.AF_INET6
        with alpha.inside(), socket.socket(kind, socket.SOCK_DGRAM) as unicast:
            unicast.sendto(b"unicast", (family.own(beta), SAP_PORT))
        speaks.send(b"one", groups[0])
        speaks.send(b"two", groups[1])
        assert heard_by(hears) == Heard(b"one", source, SAP_PORT, groups[0])
        assert heard_by(hears) == Heard(b"two", source, SAP_PORT, groups[1])
        assert hears.receive() is None


def test_a_flood_of_unicast_does_not_keep_who_reads(laboratory: Laboratory, family: Family) -> None:
    """A service's event loop reads; each call ends, and what was sent to a group is found behind the flood."""
    alpha, beta, groups = laboratory["alpha"], laboratory["beta"], family.sap_groups
    with listener(laboratory, "beta", *groups) as hears, listener(laboratory, "alpha", *groups, loop=False) as speaks:
        kind = socket.AF_INET if family.version == 4 else socket.AF_INET6
        with alpha.inside(), socket.socket(kind, socket.SOCK_DGRAM) as unicast:
            for _ in range(1_000):
                unicast.sendto(b"unicast", (family.own(beta), SAP_PORT))
        speaks.send(b"behind it", groups[0])
        heard, calls = None, 0
        while heard is None:
            heard, calls = hears.receive(), calls + 1
            assert calls < 10_000
        assert heard.payload == b"behind it"
        assert calls > 10


def test_listeners_of_both_families_share_a_port(laboratory: Laboratory) -> None:
    with listener(laboratory, "beta", SAP_GROUP) as four, listener(laboratory, "beta", *IPV6.sap_groups) as six:
        with listener(laboratory, "alpha", SAP_GROUP) as speaks:
            speaks.send(b"over IPv4", SAP_GROUP)
        assert heard_by(four).payload == b"over IPv4"
        assert six.receive() is None


def test_of_several_ipv6_addresses_the_one_that_was_named_is_the_source(laboratory: Laboratory, member: Member) -> None:
    """Linux would choose another one by itself."""
    alpha, beta, group = laboratory["alpha"], laboratory["beta"], laboratory.plan.group6(10)
    others = [str(laboratory.plan.network6[number]) for number in (200, 201)]
    with member(beta, group) as receiver:
        for other in others:
            alpha.run(["ip", "address", "add", f"{other}/64", "dev", "eth0", "nodad"])
        try:
            sources = []
            for address in (alpha.address6, *others):
                with alpha.inside(), GroupSocket(group, ESP_PORT, address, shared=True) as sender:
                    sender.send(b"")
                    BatchSender(sender.socket, sender.destination, sender.ancillary).send(memoryview(b"aab"), 2)
                sources.append([received(receiver)[1] for _ in range(3)])
        finally:
            for other in others:
                alpha.run(["ip", "address", "del", f"{other}/64", "dev", "eth0"])
    assert sources == [[address] * 3 for address in (alpha.address6, *others)]


def test_a_link_local_address_works_with_its_interface_and_is_refused_without(laboratory: Laboratory) -> None:
    group = "ff12::8000:7"  # of link-local scope
    doors = []
    for host in (laboratory["alpha"], laboratory["beta"]):
        with host.inside():
            address = interface_addresses6()["eth0"][-1]
            assert address.startswith("fe80::")
            with pytest.raises(Refused, match="fe80::1%eth0") as refused:
                GroupSocket(group, ESP_PORT, address)
            assert refused.value.rule == "interface address"
            doors.append(GroupSocket(group, ESP_PORT, f"{address}%eth0"))
    with doors[0] as sender, doors[1] as receiver:
        receiver.socket.settimeout(WAITS_FOR)
        laboratory.await_membership(laboratory["beta"], group)
        sender.send(b"on this link")
        assert received(receiver) == (b"on this link", sender.interface_address.partition("%")[0])


def test_the_interfaces_of_a_host(laboratory: Laboratory) -> None:
    with laboratory["gamma"].inside():
        assert interface_addresses() == {"lo": LOOPBACK, "eth0": laboratory["gamma"].address}
        found = interface_addresses6()
    assert found["lo"] == ("::1",)
    assert found["eth0"][0] == laboratory["gamma"].address6


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


@pytest.mark.parametrize(
    ("group", "address", "shows"),
    [
        ("239.255.127.2", "192.0.2.77", "ip -4 address"),
        ("ff15::8000:1", "2001:db8::77", "ip -6 address"),
        ("239.255.127.2", "beta", "ip address"),
    ],
)
def test_an_address_of_another_host_is_refused(group: str, address: str, shows: str) -> None:
    with pytest.raises(Refused, match=shows) as refused:
        GroupSocket(group, 45_004, address)
    assert (refused.value.code, refused.value.rule) == ("multicast-socket", "interface address")


@pytest.mark.parametrize(("group", "address"), [("ff15::8000:1", LOOPBACK), ("239.255.127.2", "::1")])
def test_group_and_interface_are_of_one_family(group: str, address: str) -> None:
    with pytest.raises(Refused, match=r"ip -[46] address") as refused:
        GroupSocket(group, 45_004, address)
    assert refused.value.rule == "address family"


def test_one_ipv6_source_too_many_names_the_limit(laboratory: Laboratory) -> None:
    gamma, most = laboratory["gamma"], 64  # net.ipv6.mld_max_msf; one for all namespaces
    sources = [f"2001:db8::{number:x}" for number in range(1, most + 2)]
    with gamma.inside(), pytest.raises(Refused, match=r"sysctl -w net\.ipv6\.mld_max_msf=") as refused:
        GroupSocket("ff35::8000:11", ESP_PORT, gamma.address6, sources)
    assert refused.value.rule == "net.ipv6.mld_max_msf"


def test_as_many_ipv6_groups_as_the_socket_has_memory_for(laboratory: Laboratory) -> None:
    gamma = laboratory["gamma"]
    groups = [f"ff15::8001:{number:x}" for number in range(4_000)]
    with gamma.inside(), pytest.raises(Refused, match=r"sysctl -w net\.core\.optmem_max=") as refused:
        MulticastListener(groups, SAP_PORT, gamma.address6)
    assert refused.value.rule == "net.core.optmem_max"


def test_a_taken_port_is_refused_unless_both_share_it() -> None:
    with GroupSocket("239.255.127.3", 45_005, LOOPBACK), pytest.raises(Refused, match="ss -ulpn") as refused:
        GroupSocket("239.255.127.3", 45_005, LOOPBACK)
    assert refused.value.rule == "port"
    with GroupSocket("239.255.127.3", 45_005, LOOPBACK, shared=True):
        GroupSocket("239.255.127.3", 45_005, LOOPBACK, shared=True).close()


@pytest.mark.parametrize(
    ("group", "rule"),
    [
        ("192.0.2.1", "RFC 5771"),
        ("232.1.2.3", "RFC 4607"),
        ("2001:db8::1", "RFC 4291"),
        ("ff35::8000:1", "RFC 4607"),
        ("all", "malformed"),
    ],
)
def test_a_group_that_cant_be_joined_is_refused(group: str, rule: str) -> None:
    address = "::1" if ":" in group else LOOPBACK
    with pytest.raises(Refused) as refused:
        GroupSocket(group, 45_006, address)
    assert refused.value.rule == rule
    with pytest.raises(Refused):
        MulticastListener([group], 45_006, address)


def test_an_interface_that_is_down_names_the_command(laboratory: Laboratory, member: Member, family: Family) -> None:
    gamma = laboratory["gamma"]
    with member(gamma, family.group(laboratory, 8)) as opened:
        gamma.run(["ip", "link", "set", "eth0", "down"])
        try:
            with pytest.raises(Refused, match="ip link set dev") as refused:
                opened.send(b"nowhere")
        finally:
            gamma.run(["ip", "link", "set", "eth0", "up"])
            gamma.run(["ip", "route", "add", "224.0.0.0/4", "dev", "eth0"])
            address = f"{gamma.address6}/{laboratory.plan.network6.prefixlen}"  # the kernel took it off
            gamma.run(["ip", "address", "replace", address, "dev", "eth0", "nodad"])
    assert refused.value.rule == ("route" if family.version == 4 else "interface address")


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


def test_a_datagram_longer_than_the_mtu_is_cut_or_refused(laboratory: Laboratory, family: Family) -> None:
    alpha, group = laboratory["alpha"], family.group(laboratory, 72)
    with alpha.inside():
        cutting = GroupSocket(group, ESP_PORT, family.own(alpha), bind_group=False)
        whole = GroupSocket(group, ESP_PORT, family.own(alpha), bind_group=False, fragment=False)
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
