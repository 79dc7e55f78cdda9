"""What the kernel's IPsec has to refuse, as the driver has set it up."""

from __future__ import annotations

import errno
import socket

import pytest

from tests.kernel.conftest import MakeGroup
from tests.kernel.hosts import PORT, Application, at_sequence

both_wires = pytest.mark.parametrize("wire", ["udp", "esp"])


@both_wires
def test_plaintext_is_refused_and_would_be_heard_without_the_driver(make_group: MakeGroup, wire: str) -> None:
    with make_group(wire=wire) as group, make_group() as unsecured:
        alpha = group.member("alpha")
        address = group.description.address
        mallory = Application(group.laboratory["mallory"], group.laboratory["mallory"].address, address)
        assert alpha.application is not None
        mallory.say(b"plaintext")
        assert alpha.application.hears_nothing()
        assert alpha.count("host.refused") > 0
        mallory.close()
        elsewhere = unsecured.description.address
        with_no_driver = Application(alpha.host, alpha.address, elsewhere)
        group.laboratory.await_membership(alpha.host, elsewhere)
        mallory = Application(group.laboratory["mallory"], group.laboratory["mallory"].address, elsewhere)
        mallory.say(b"plaintext")
        assert with_no_driver.hear() == b"plaintext"
        mallory.close()
        with_no_driver.close()


def test_nothing_of_what_a_member_says_is_on_the_wire_in_the_clear(make_group: MakeGroup) -> None:
    with make_group(wire="esp") as group:
        alpha = group.member("alpha")
        group.member("beta")
        mallory = Application(
            group.laboratory["mallory"], group.laboratory["mallory"].address, group.description.address
        )
        group.laboratory.await_membership(group.laboratory["mallory"], group.description.address)
        alpha.say(b"not for mallory")
        assert mallory.hears_nothing()
        mallory.close()


@both_wires
@pytest.mark.parametrize("place", [8, 16, -1], ids=["IV", "ciphertext", "ICV"])
def test_a_packet_that_was_tampered_with_is_dropped_and_counted(make_group: MakeGroup, wire: str, place: int) -> None:
    with make_group(wire=wire) as group:
        alpha, beta = group.member("alpha"), group.association(2)
        broken = bytearray(beta.seal(b"tampered with", PORT, PORT))
        broken[place] ^= 1
        with group.wire_of("beta") as send:
            send(bytes(broken))
            send(beta.seal(b"whole", PORT, PORT))
        assert alpha.hear() == b"whole"
        assert alpha.count("integrity") == 1


@pytest.mark.parametrize("window", [64, 1024, 4096])
def test_replays_are_dropped_within_the_window_and_left_of_it(make_group: MakeGroup, window: int) -> None:
    with make_group(replay_window=window) as group:
        alpha, beta = group.member("alpha"), group.association(2)
        first, second = at_sequence(beta, 1), at_sequence(beta, 2)
        last, newest = at_sequence(beta, window), at_sequence(beta, window + 1)
        with group.wire_of("beta") as send:
            for packet, number in ((first, 1), (newest, window + 1), (second, 2), (last, window)):
                send(packet)  # the second is the oldest that the window still has
                assert alpha.hear() == b"number %d" % number
            for packet in (first, second, last, newest):
                send(packet)
        assert alpha.application is not None
        assert alpha.application.hears_nothing()
        assert alpha.count("replay") == 4


@both_wires
def test_a_sender_is_heard_from_its_own_address_only(make_group: MakeGroup, wire: str) -> None:
    """Who has but the key of one sender ID, as a send-only host has, can't speak from another's address."""
    with make_group(wire=wire) as group:
        alpha = group.member("alpha")
        with group.wire_of("gamma") as send:
            send(group.association(2).seal(b"beta's, from gamma", PORT, PORT))
        assert alpha.application is not None
        assert alpha.application.hears_nothing()
        assert alpha.count("host.source") > 0


@both_wires
def test_this_hosts_own_state_opens_nothing(make_group: MakeGroup, wire: str) -> None:
    with make_group(wire=wire) as group:
        alpha = group.member("alpha")
        with group.wire_of("gamma") as send:
            send(group.association(1).seal(b"in alpha's name, to alpha", PORT, PORT))
        assert alpha.application is not None
        assert alpha.application.hears_nothing()


def test_what_another_wire_form_carries_is_not_opened(make_group: MakeGroup) -> None:
    with make_group(wire="esp") as group:
        alpha = group.member("alpha")
        group.description.policy.wire = "udp"
        with group.wire_of("beta") as send:
            send(group.association(2).seal(b"in UDP, where the group has none", PORT, PORT))
        assert alpha.application is not None
        assert alpha.application.hears_nothing()


def test_segmentation_offload_is_refused(make_group: MakeGroup) -> None:
    """A limit of the kernel's: an application that insists has to send one datagram a call."""
    with make_group() as group:
        alpha = group.member("alpha")
        assert alpha.application is not None
        door = alpha.application.door
        door.socket.setsockopt(socket.IPPROTO_UDP, 103, 500)  # UDP_SEGMENT
        with pytest.raises(OSError) as refused:
            door.socket.sendto(bytes(5000), door.destination)
        assert refused.value.errno == errno.EIO


def test_what_does_not_fit_is_refused_where_an_application_asks_not_to_fragment(make_group: MakeGroup) -> None:
    with make_group() as group:
        alpha, beta = group.member("alpha"), group.member("beta")
        assert alpha.application is not None
        alpha.application.door.socket.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
        with pytest.raises(OSError) as refused:
            alpha.say(bytes(1472))
        assert refused.value.errno == errno.EMSGSIZE
        alpha.say(bytes(1400))
        assert beta.hear() == bytes(1400)
        assert not alpha.count("host.fragments")
        alpha.application.door.socket.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_PMTUDISC_DONT
        alpha.say(bytes(1472))
        assert beta.hear() == bytes(1472)
        assert alpha.count("host.fragments") == 2


def test_traffic_class_and_hop_limit_stay(make_group: MakeGroup) -> None:
    with make_group() as group:
        alpha, beta = group.member("alpha"), group.member("beta")
        assert alpha.application is not None
        assert beta.application is not None
        alpha.application.door.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xB8)
        alpha.application.door.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 7)
        heard = beta.application.door.socket
        heard.setsockopt(socket.IPPROTO_IP, 13, 1)  # IP_RECVTOS
        heard.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
        alpha.say(b"expedited")
        _, ancillary, _, _ = heard.recvmsg(100, 100)
        said = {kind: value[0] for _, kind, value in ancillary}
        assert (said[socket.IP_TOS], said[socket.IP_TTL]) == (0xB8, 7)
