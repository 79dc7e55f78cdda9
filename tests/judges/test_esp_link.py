"""Judges at a real link: what the driver puts on it, as a wiretap saw it, and what a foreign implementation does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP
from scapy.packet import Packet, Raw

from mcsa.laboratory.capture import Capture
from mcsa.laboratory.namespaces import Laboratory
from mcsa.laboratory.packets import parse_packet, parse_pcap
from tests.esp.parts import SUITES
from tests.judges import require_program
from tests.judges.esp import ask_tshark, association_for, scapy_association
from tests.services.msm.link import PORT, Host, group_ethernet, key_of, raw_door

WIRES = {"udp": ("esp-udp", "udp:udpencap:esp"), "esp": ("esp", "esp")}
ALPHA, GAMMA, FOREIGN = 1, 2, 3
PAYLOADS = [bytes((n,)) * (1 + 31 * (n // 4) % 700) for n in range(60)]  # some together are of one size


class Link:
    """Two hosts of a group, and a capture at the second one's interface."""

    def __init__(self, laboratory: Laboratory, folder: Path, wire: str, suite: str, ip: int) -> None:
        self.laboratory, self.wire, self.suite, self.ip = laboratory, wire, suite, ip
        self.group = laboratory.plan.group(71) if ip == 4 else laboratory.plan.group6(71)
        mallory = laboratory["mallory"]
        self.foreign = mallory.address if ip == 4 else mallory.address6
        self.alpha = Host(laboratory, "alpha", folder, self.group, wire=wire, suite=suite)
        self.gamma = Host(laboratory, "gamma", folder, self.group, wire=wire, suite=suite)
        addresses = {ALPHA: self.alpha.address, GAMMA: self.gamma.address, FOREIGN: self.foreign}
        self.alpha.key(addresses, ALPHA)
        self.gamma.key(addresses, GAMMA)
        for name in ("alpha", "gamma"):  # batches are cut before the wire, as a network card would
            laboratory[name].run(["ip", "link", "set", laboratory[name].interface, "gso_max_segs", "1"])
        self.capture = Capture(laboratory["gamma"], folder / "wire.pcap")

    def close(self) -> None:
        self.alpha.close()
        self.gamma.close()


@pytest.fixture(
    params=[(wire, suite, ip) for wire in WIRES for suite in SUITES for ip in (4, 6)],
    ids="{0[0]} {0[1]} ipv{0[2]}".format,
)
def link(request: pytest.FixtureRequest, laboratory: Laboratory, tmp_path: Path) -> Iterator[Link]:
    made = Link(laboratory, tmp_path, *request.param)
    yield made
    made.close()


def network(link: Link, source: str, protocol: int) -> Packet:
    """An IP header of the link's version."""
    if link.ip == 4:
        return IP(src=source, dst=link.group, proto=protocol)
    return IPv6(src=source, dst=link.group, nh=protocol)


def parsed(link: Link, datagram: bytes) -> Packet:
    return IP(datagram) if link.ip == 4 else IPv6(datagram)


def test_what_the_driver_sends_is_esp_to_tshark_and_nothing_else(link: Link) -> None:
    """Both ways, in batches as applications fill them and one by one."""
    require_program("tshark")
    for payload in PAYLOADS:
        link.alpha.say(payload)
    assert [link.gamma.hear() for _ in PAYLOADS] == [(ALPHA, payload) for payload in PAYLOADS]
    for payload in PAYLOADS[:5]:
        link.gamma.say(payload)
        assert link.alpha.hear() == (GAMMA, payload)
    kind, protocols = WIRES[link.wire]
    assert link.capture.stop()[kind] == len(PAYLOADS) + 5
    content = link.capture.output.read_bytes()
    assert not [payload for payload in PAYLOADS if len(payload) > 30 and payload[:24] in content]
    if "gcm" not in link.suite:  # tshark 4.0 has no ChaCha20 in ESP; scapy opens it, below
        return
    keys = {number: key_of(number, link.suite) for number in (ALPHA, GAMMA)}
    associations = [association_for(link.ip, link.group, key) for key in keys.values()]
    said = ask_tshark(link.capture.output, associations, checksums=False)  # a network card's work: veth has none
    assert {each.icv for each in said} == {"good"}
    assert {each.protocols for each in said} == {
        f"eth:ethertype:{'ip' if link.ip == 4 else 'ipv6'}:{protocols}:udp:data"
    }
    assert not [each.complaints for each in said if each.complaints]
    checked = ask_tshark(link.capture.output, associations)
    assert {each.checksums[-1] for each in checked} == {"absent" if link.ip == 4 else "good"}  # the inner ones
    for number, payloads in ((ALPHA, PAYLOADS), (GAMMA, PAYLOADS[:5])):
        found = [(each.sequence, each.payload) for each in said if each.spi == keys[number].spi]
        assert found == list(enumerate(payloads, start=1))


def test_scapy_opens_what_the_driver_sends(link: Link) -> None:
    for payload in PAYLOADS[:20]:
        link.alpha.say(payload)
        link.gamma.hear()
    link.capture.stop()
    opened = []
    for _, frame in parse_pcap(link.capture.output.read_bytes()):
        packet = parse_packet(frame)
        if packet is None or packet.destination != link.group or packet.source != link.alpha.address:
            continue
        assert packet.protocol == (17 if link.wire == "udp" else 50)
        datagram = network(link, packet.source, 50) / Raw(packet.payload)
        read = scapy_association(link.suite, key_of(ALPHA, link.suite)).decrypt(parsed(link, bytes(datagram)))
        opened.append(bytes(read[UDP].payload))
    assert opened == PAYLOADS[:20]


def test_the_driver_opens_what_scapy_sends(link: Link) -> None:
    """A member of another make, with the key of its own SPI: its IVs and checksums are its own."""
    association = scapy_association(link.suite, key_of(FOREIGN, link.suite))
    with raw_door(link.laboratory, "mallory") as door:
        for sequence, payload in enumerate(PAYLOADS[:20], start=1):
            plain = network(link, link.foreign, 17) / UDP(sport=PORT, dport=PORT) / Raw(payload)
            sealed = association.encrypt(parsed(link, bytes(plain)), seq_num=sequence)
            if link.wire == "udp":
                esp = Raw(bytes(sealed[ESP]))
                sealed = network(link, link.foreign, 17) / UDP(sport=4500, dport=4500) / esp
            door.send(group_ethernet(link.group) + bytes(sealed))
    assert [link.gamma.hear() for _ in range(20)] == [(FOREIGN, payload) for payload in PAYLOADS[:20]]
    link.capture.stop()
