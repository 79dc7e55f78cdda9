"""Judges at a real link: what the driver puts on it, as a wiretap saw it, and what a foreign implementation does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from mcsa.laboratory.capture import Capture
from mcsa.laboratory.namespaces import Laboratory
from mcsa.laboratory.packets import parse_packet, parse_pcap
from tests.esp.parts import SUITES
from tests.judges import require_program
from tests.judges.esp import ask_tshark, association_for, scapy_association
from tests.services.msm.link import PORT, Host, key_of, raw_door

WIRES = {"udp": ("esp-udp", "udp:udpencap:esp"), "esp": ("esp", "esp")}
ALPHA, GAMMA, FOREIGN = 1, 2, 3
PAYLOADS = [bytes((n,)) * (1 + 31 * (n // 4) % 700) for n in range(60)]  # some together are of one size


class Link:
    """Two hosts of a group, and a capture at the second one's interface."""

    def __init__(self, laboratory: Laboratory, folder: Path, wire: str, suite: str) -> None:
        self.laboratory, self.wire, self.suite = laboratory, wire, suite
        self.group = laboratory.plan.group(71)
        self.alpha = Host(laboratory, "alpha", folder, self.group, wire=wire, suite=suite)
        self.gamma = Host(laboratory, "gamma", folder, self.group, wire=wire, suite=suite)
        addresses = {ALPHA: self.alpha.address, GAMMA: self.gamma.address, FOREIGN: laboratory["mallory"].address}
        self.alpha.key(addresses, ALPHA)
        self.gamma.key(addresses, GAMMA)
        for name in ("alpha", "gamma"):  # batches are cut before the wire, as a network card would
            laboratory[name].run(["ip", "link", "set", laboratory[name].interface, "gso_max_segs", "1"])
        self.capture = Capture(laboratory["gamma"], folder / "wire.pcap")

    def close(self) -> None:
        self.alpha.close()
        self.gamma.close()


@pytest.fixture(params=[(wire, suite) for wire in WIRES for suite in SUITES], ids=" ".join)
def link(request: pytest.FixtureRequest, laboratory: Laboratory, tmp_path: Path) -> Iterator[Link]:
    made = Link(laboratory, tmp_path, *request.param)
    yield made
    made.close()


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
    associations = [association_for(4, link.group, key) for key in keys.values()]
    said = ask_tshark(link.capture.output, associations, checksums=False)  # a network card's work: veth has none
    assert {each.icv for each in said} == {"good"}
    assert {each.protocols for each in said} == {f"eth:ethertype:ip:{protocols}:udp:data"}
    assert not [each.complaints for each in said if each.complaints]
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
        datagram = bytes(IP(src=packet.source, dst=packet.destination, proto=50) / Raw(packet.payload))
        read = scapy_association(link.suite, key_of(ALPHA, link.suite)).decrypt(IP(datagram))
        opened.append(bytes(read[UDP].payload))
    assert opened == PAYLOADS[:20]


def test_the_driver_opens_what_scapy_sends(link: Link) -> None:
    """A member of another make, with the key of its own SPI: its IVs and checksums are its own."""
    address = link.laboratory["mallory"].address
    association = scapy_association(link.suite, key_of(FOREIGN, link.suite))
    ethernet = bytes(Ether(src="02:00:00:00:00:01", dst="01:00:5e:7f:00:47"))[:12] + b"\x08\x00"
    with raw_door(link.laboratory, "mallory") as door:
        for sequence, payload in enumerate(PAYLOADS[:20], start=1):
            plain = IP(src=address, dst=link.group) / UDP(sport=PORT, dport=PORT) / Raw(payload)
            sealed = association.encrypt(IP(bytes(plain)), seq_num=sequence)
            if link.wire == "udp":
                esp = bytes(sealed.payload)
                sealed = IP(src=address, dst=link.group) / UDP(sport=4500, dport=4500) / Raw(esp)
            door.send(ethernet + bytes(sealed))
    assert [link.gamma.hear() for _ in range(20)] == [(FOREIGN, payload) for payload in PAYLOADS[:20]]
    link.capture.stop()
