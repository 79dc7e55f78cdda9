"""Which of a group's packets the MSM is shown, where the kernel's IPsec has the rest: real sockets, real filters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mcsa.errors import Refused
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.shell.multicast import GroupSocket
from mcsa.shell.opened_packets import Encapsulated, OpenedPackets, join_group
from mcsa.updates import PORT as UPDATE_PORT
from mcsa.v1.types_pb2 import GroupDescription
from mcsa.xfrm.filters import esp_filter, udp_filter

KNOWN, UNKNOWN = 5, 6
VERSIONS = pytest.mark.parametrize("version", [4, 6])


def packet(tag: int, sender: int = 9) -> bytes:
    """Begins as an ESP packet does."""
    return (tag << 20 | sender).to_bytes(4, "big") + bytes(20)


class Sender:
    """Sends to a group from a host, as it is asked to."""

    def __init__(self, host: Host, group: str, address: str, *, raw_esp: bool = False) -> None:
        with host.inside():
            self._door = GroupSocket(group, 0, address, ttl=2, bind_group=False, raw_esp=raw_esp)

    def send(self, payload: bytes, port: int = 0) -> None:
        destination = (self._door.destination[0], port, *self._door.destination[2:])
        self._door.socket.sendmsg([payload], self._door.ancillary, 0, destination)

    def close(self) -> None:
        self._door.close()


@pytest.fixture
def described(laboratory: Laboratory, request: pytest.FixtureRequest) -> GroupDescription:
    version = request.getfixturevalue("version")
    address = laboratory.plan.group(77) if version == 4 else laboratory.plan.group6(77)
    return GroupDescription(address=address, ttl=2)


@pytest.fixture
def packets(laboratory: Laboratory, described: GroupDescription) -> Iterator[OpenedPackets]:
    with laboratory["alpha"].inside():
        made = OpenedPackets(described, _address(laboratory["alpha"], described))
    with made:
        laboratory.await_membership(laboratory["alpha"], described.address)
        yield made


def _address(host: Host, group: GroupDescription) -> str:
    return host.address6 if ":" in group.address else host.address


def _shown(packets: OpenedPackets, program: bytes, sender: Sender) -> list[tuple[int, bytes]]:
    """What is let through of one datagram of each kind, and one that always is, by which the end is known."""
    packets.show(program)
    sender.send(b"application", 5004)
    sender.send(packet(KNOWN), 4500)
    sender.send(packet(0), 4500)
    sender.send(packet(UNKNOWN), 4500)
    sender.send(b"last", UPDATE_PORT)
    found: list[tuple[int, bytes]] = []
    packets.socket.settimeout(5.0)
    while not found or found[-1][1] != b"last":
        opened = packets.receive()
        assert opened is not None
        found.append((opened.destination_port, opened.payload))
    return found


@VERSIONS
def test_the_msm_is_shown_updates_unknown_epochs_and_if_it_asks_the_rest(
    laboratory: Laboratory, packets: OpenedPackets, described: GroupDescription, version: int
) -> None:
    sender = Sender(laboratory["gamma"], described.address, _address(laboratory["gamma"], described))
    application, last = (5004, b"application"), (UPDATE_PORT, b"last")
    unknown, known, odd = (4500, packet(UNKNOWN)), (4500, packet(KNOWN)), (4500, packet(0))
    for everything, in_udp, wanted in (
        (False, True, [unknown, last]),
        (True, True, [application, unknown, last]),
        (False, False, [last]),
        (True, False, [application, known, odd, unknown, last]),
    ):
        program = udp_filter(version, {KNOWN, KNOWN + 2}, everything=everything, in_udp=in_udp)
        assert _shown(packets, program, sender) == wanted
    sender.close()


@VERSIONS
def test_as_ip_protocol_50_it_is_shown_what_has_an_unknown_epoch(
    laboratory: Laboratory, described: GroupDescription, version: int
) -> None:
    with laboratory["alpha"].inside():
        outer = join_group(described, _address(laboratory["alpha"], described), in_udp=False)
    laboratory.await_membership(laboratory["alpha"], described.address)
    gamma = _address(laboratory["gamma"], described)
    sender = Sender(laboratory["gamma"], described.address, gamma, raw_esp=True)
    with outer:
        outer.show(esp_filter(version, {KNOWN}))
        for tag in (KNOWN, 0, UNKNOWN):
            sender.send(packet(tag))
        outer._joined.socket.settimeout(5.0)
        assert outer.receive() == Encapsulated(gamma, packet(UNKNOWN))
        outer._joined.socket.settimeout(0.3)
        assert outer.receive() is None
    sender.close()


@VERSIONS
def test_what_the_msm_sends_is_an_ordinary_datagram_with_a_good_checksum(
    laboratory: Laboratory, packets: OpenedPackets, described: GroupDescription, version: int
) -> None:
    gamma = laboratory["gamma"]
    with gamma.inside():
        application = GroupSocket(described.address, 5004, _address(gamma, described))
    laboratory.await_membership(gamma, described.address)
    with application:
        application.socket.settimeout(5.0)
        for payload in (b"", b"a", b"even", bytes(1400)):
            packets.send(payload, 5006, 5004)
            heard, source = application.socket.recvfrom(2000)
            assert (heard, source[:2]) == (payload, (_address(laboratory["alpha"], described), 5006))


@VERSIONS
def test_a_datagram_that_is_too_long_is_refused_not_cut(packets: OpenedPackets, version: int) -> None:
    with pytest.raises(OSError, match="too long"):
        packets.send(bytes(1473), 5004, 5004)


@VERSIONS
def test_with_esp_in_udp_the_kernels_ipsec_gets_it_and_nobody_else(
    laboratory: Laboratory, described: GroupDescription, version: int
) -> None:
    with laboratory["alpha"].inside():
        try:
            outer = join_group(described, _address(laboratory["alpha"], described), in_udp=True)
        except Refused as refused:
            pytest.skip(f"this kernel: {refused}")
    laboratory.await_membership(laboratory["alpha"], described.address)
    sender = Sender(laboratory["gamma"], described.address, _address(laboratory["gamma"], described))
    with outer:
        sender.send(packet(KNOWN), 4500)
        sender.send(bytes(30), 4500)
        outer._joined.socket.settimeout(0.5)
        assert outer.receive() is None
    sender.close()
