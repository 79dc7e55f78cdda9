"""Real nftables rules on two hosts of a laboratory: what passes beside the TUN interface, with them and without."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from mcsa.errors import Refused
from mcsa.esp.ip import checksum
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.shell import nftables, programs
from mcsa.shell.nftables import GroupFirewall, leftovers, table_name
from mcsa.shell.tun import TunInterface

INTERFACE = "mcsa7"


@pytest.fixture
def group(laboratory: Laboratory) -> str:
    return laboratory.plan.group(71)


@pytest.fixture
def firewall(laboratory: Laboratory, group: str) -> Iterator[GroupFirewall]:
    """Of alpha, with its TUN interface."""
    with laboratory["alpha"].inside():
        interface = TunInterface(INTERFACE, 1_400)
        made = GroupFirewall(INTERFACE)
        made.protect([group])
        interface.route(group)
    yield made
    with laboratory["alpha"].inside():
        made.close()
    interface.close()


def pinned(host: Host) -> bytes:
    """struct ip_mreqn that names the physical interface, without a group."""
    return struct.pack("=4s4si", bytes(4), bytes(4), socket.if_nametoindex(host.interface))


class Passing:
    """Whether what one host's application says on the LAN is heard by one on another."""

    def __init__(self, laboratory: Laboratory, speaker: str, listener: str, group: str) -> None:
        self._laboratory, self._speaker, self._listener, self._group = laboratory, speaker, listener, group

    def __call__(self, payload: bytes = b"plaintext", port: int = 5004, protocol: int = socket.IPPROTO_UDP) -> bool:
        speaker, listener = self._laboratory[self._speaker], self._laboratory[self._listener]
        kind = socket.SOCK_DGRAM if protocol == socket.IPPROTO_UDP else socket.SOCK_RAW
        with ExitStack() as doors:
            with listener.inside():
                heard = doors.enter_context(socket.socket(socket.AF_INET, kind, protocol))
                heard.settimeout(0.3)
                heard.bind(("", port if kind == socket.SOCK_DGRAM else 0))
                membership = socket.inet_aton(self._group) + pinned(listener)[4:]
                heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            self._laboratory.await_membership(listener, self._group)
            with speaker.inside():
                said = doors.enter_context(socket.socket(socket.AF_INET, kind, protocol))
                said.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, pinned(speaker))
                said.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
                try:
                    said.sendto(payload, (self._group, port if kind == socket.SOCK_DGRAM else 0))
                except PermissionError:  # what the kernel says where its rules drop it
                    return False
            try:
                return heard.recv(2_000).endswith(payload)
            except TimeoutError:
                return False


@pytest.mark.parametrize("way", ["out", "in"])
def test_plaintext_passes_neither_way_but_for_esp(
    way: str, laboratory: Laboratory, firewall: GroupFirewall, group: str
) -> None:
    passes = Passing(laboratory, *(("alpha", "beta") if way == "out" else ("beta", "alpha")), group)
    assert not passes()
    assert not passes(bytes(4) + b"IKE, not ESP", 4500)
    assert not passes(b"abc", 4500)
    assert not passes(b"of another protocol", protocol=99)
    assert passes(b"\0\0\1\0 ESP in UDP", 4500)
    assert passes(b"ESP itself", protocol=50)
    with laboratory["alpha"].inside():
        dropped = firewall.dropped()
        assert dropped == {"incoming": 4 * (way == "in"), "outgoing": 4 * (way == "out")}
        firewall.close()  # on purpose: the test can fail
    assert passes()
    assert passes(b"abc", 4500)


def test_fragments_of_plaintext_do_not_pass(laboratory: Laboratory, firewall: GroupFirewall, group: str) -> None:
    passes = Passing(laboratory, "beta", "alpha", group)
    assert not passes(bytes(1_900))
    with laboratory["alpha"].inside():
        firewall.close()
    assert passes(bytes(1_900))


def test_other_groups_and_the_interface_itself_are_left_alone(
    laboratory: Laboratory, firewall: GroupFirewall, group: str
) -> None:
    assert Passing(laboratory, "alpha", "beta", laboratory.plan.group(72))()
    assert Passing(laboratory, "beta", "alpha", laboratory.plan.group(72))()
    with laboratory["alpha"].inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.sendto(b"to the TUN interface", (group, 5004))


def test_membership_goes_on(laboratory: Laboratory, firewall: GroupFirewall, group: str) -> None:
    """A querier asks about one group at the group's own address, and who answers in IGMPv2 reports there."""
    query = struct.pack(">BBH4s", 0x11, 10, 0, socket.inet_aton(group))
    query = query[:2] + checksum(query).to_bytes(2, "big") + query[4:]
    assert Passing(laboratory, "beta", "alpha", group)(query, protocol=socket.IPPROTO_IGMP)
    assert Passing(laboratory, "alpha", "beta", group)(query, protocol=socket.IPPROTO_IGMP)


def test_ipv6_groups_have_rules_too(laboratory: Laboratory, firewall: GroupFirewall) -> None:
    alpha = laboratory["alpha"]
    with alpha.inside():
        firewall.protect(["ff15::1:1"])
        firewall.protect(["ff15::1:1"])
        assert "ff15::1:1" in firewall.protected()
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as door:
            door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(alpha.interface))
            with pytest.raises(PermissionError):
                door.sendto(b"plaintext", ("ff15::1:1", 5004))
            door.sendto(b"\0\0\1\0 ESP", ("ff15::1:1", 4500))
        assert firewall.dropped()["outgoing"] == 1


def test_the_groups_that_a_killed_process_left_stay_closed_until_the_next_one_ends(
    laboratory: Laboratory, group: str
) -> None:
    with laboratory["alpha"].inside():
        interface = TunInterface(INTERFACE, 1_400)
        killed = GroupFirewall(INTERFACE)
        killed.protect([group])
        assert leftovers() == []  # it lives
        interface.close()  # as the kernel does for who was killed; the rules stay
        assert leftovers() == [table_name(INTERFACE)]
        again = GroupFirewall(INTERFACE)
        again.protect(["ff15::1:1"])
        assert again.protected() == {group, "ff15::1:1"}
        elsewhere = GroupFirewall("mcsa8")  # mcsa7 has no interface any more
        assert elsewhere.protected() == {group, "ff15::1:1"}
        assert leftovers() == [table_name("mcsa8")]
        assert not Passing(laboratory, "alpha", "beta", group)()
        elsewhere.close()
        elsewhere.close()
        assert leftovers() == []
    assert Passing(laboratory, "alpha", "beta", group)()


def test_what_is_put_back_opens_nothing_meanwhile(firewall: GroupFirewall, laboratory: Laboratory, group: str) -> None:
    """Somebody took a group's address away. Where it can't be put back, the others stay closed."""
    with laboratory["alpha"].inside():
        firewall.protect(["239.77.1.1"])
        assert not firewall.restore([group, "239.77.1.1"])
        laboratory["alpha"].run(["nft", "delete", "element", "inet", firewall.table, "groups4", "{ 239.77.1.1 }"])
        with pytest.raises(Refused):
            firewall.restore([group, "239.77.1.1", "no address"])
        assert firewall.protected() == {group}
        assert firewall.restore([group, "239.77.1.1"])
        assert firewall.protected() == {group, "239.77.1.1"}


def test_what_was_open_when_one_ended_stays_closed_and_the_rest_is_free(laboratory: Laboratory, group: str) -> None:
    with laboratory["alpha"].inside():
        ended = GroupFirewall(INTERFACE)
        ended.protect([group, "ff15::1:1"])
        ended.close([group])
        assert ended.protected() == {group}
        assert leftovers() == [table_name(INTERFACE)]
        assert not Passing(laboratory, "alpha", "beta", group)()
        GroupFirewall(INTERFACE).close()
    assert Passing(laboratory, "alpha", "beta", group)()


def test_a_table_that_is_not_as_ours_are_is_replaced(laboratory: Laboratory) -> None:
    with laboratory["alpha"].inside():
        programs.run_program(["nft", "add", "table", "inet", table_name("mcsa8")], "test")
        made = GroupFirewall(INTERFACE)
        assert made.protected() == set()
        assert leftovers() == [table_name(INTERFACE)]  # it has no interface
        made.close()


def test_without_nft_or_the_right_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, laboratory: Laboratory) -> None:
    with monkeypatch.context() as changed, pytest.raises(Refused, match="apt-get install nftables"):
        changed.setattr(programs, "find_program", lambda _: None)
        GroupFirewall(INTERFACE)
    with laboratory["alpha"].inside(), pytest.raises(Refused, match="choose driver"):
        made = GroupFirewall.__new__(GroupFirewall)
        made.table = "no table"
        made.protect(["239.1.1.1"])


def test_two_interfaces_never_share_a_table() -> None:
    names = ["mcsa0", "mcsa.0", "mcsa_0", "mcsa-0", "mcsa_2e_0"]
    tables = {table_name(name) for name in names}
    assert len(tables) == len(names)
    assert all(table.replace("_", "").isalnum() and table.startswith(nftables.PREFIX) for table in tables)


MRT_INIT, MRT_ADD_VIF, MRT_ADD_MFC, USE_INDEX = 200, 202, 204, 8  # linux/mroute.h


def multicast_router(host: Host, source: str, group: str) -> socket.socket:
    """While it is open, the host forwards what comes out of the TUN interface from a source to a group, to the LAN."""
    with host.inside():
        router = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
        router.setsockopt(socket.IPPROTO_IP, MRT_INIT, 1)
        for number, name in enumerate((INTERFACE, host.interface)):
            # struct vifctl: number, flags, threshold, rate limit, interface index, remote address
            link = struct.pack("=HBBIiI", number, USE_INDEX, 1, 0, socket.if_nametoindex(name), 0)
            router.setsockopt(socket.IPPROTO_IP, MRT_ADD_VIF, link)
        # struct mfcctl: origin, group, where it comes in, a threshold for each of 32 links, and four counters
        way = struct.pack(
            "=4s4sH32s2xIIIi", *map(socket.inet_aton, (source, group)), 0, b"\0\1" + bytes(30), 0, 0, 0, 0
        )
        router.setsockopt(socket.IPPROTO_IP, MRT_ADD_MFC, way)
    return router


def test_a_host_that_routes_multicast_does_not_carry_plaintext_on(laboratory: Laboratory, group: str) -> None:
    """What is written to the TUN interface for this host's applications, with hops to spare."""
    alpha, beta, gamma = laboratory["alpha"], laboratory["beta"], laboratory["gamma"]
    with ExitStack() as doors:
        with alpha.inside():
            interface = TunInterface(INTERFACE, 1_400)
            doors.callback(interface.close)
            firewall = GroupFirewall(INTERFACE)
            firewall.protect([group])
            interface.route(group)
        doors.enter_context(multicast_router(alpha, gamma.address, group))
        with beta.inside():
            heard = doors.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            heard.settimeout(0.5)
            heard.bind(("", 5004))
            membership = socket.inet_aton(group) + pinned(beta)[4:]
            heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        laboratory.await_membership(beta, group)
        ends = socket.inet_aton(gamma.address), socket.inet_aton(group)
        interface.write(*ends, 5004, 5004, [b"plaintext"], hop_limit=8)
        with pytest.raises(TimeoutError):
            heard.recv(100)
        with alpha.inside():
            assert firewall.dropped() == {"incoming": 0, "outgoing": 1}
            firewall.close()  # on purpose: the test can fail
        interface.write(*ends, 5004, 5004, [b"plaintext"], hop_limit=8)
        assert heard.recv(100) == b"plaintext"


HOSTILE = "ff15::1%x }; add table inet pwned; add element inet mcsa_mcsa7 groups6 { ff15::2"
"""Python takes it for an address with a scope; nft, run as root, for three commands."""


def test_an_address_that_is_more_than_one_is_refused_and_nothing_of_it_is_carried_out(
    firewall: GroupFirewall, laboratory: Laboratory
) -> None:
    assert ipaddress.ip_address(HOSTILE).is_multicast
    with laboratory["alpha"].inside():
        before = firewall.protected()
        for address in (HOSTILE, "239.1.1.1, 239.1.1.2", "", "198.18.0.1", "ff15::1%eth0", "FF15::1"):
            with pytest.raises(Refused, match="no multicast address"):
                firewall.protect([address])
        assert firewall.protected() == before
        assert "pwned" not in laboratory["alpha"].run(["nft", "list", "tables"])
