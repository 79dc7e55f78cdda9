"""Two independent implementations of ESP say whether ours is it: tshark reads our packets, scapy reads and writes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP, IPSecIntegrityError, SecurityAssociation
from scapy.packet import Raw

from mcsa.errors import Rejected
from mcsa.esp.inbound import InboundAssociations
from mcsa.esp.wire import parse_ip
from mcsa.laboratory.packets import pcap_header, pcap_record
from tests.esp.parts import SENDER, SOURCE, inbound, open_together, outbound, traffic_key
from tests.judges import require_program

GROUP = "239.255.1.2"
PAYLOAD = b"what the judge has to find"
SCAPY_NAMES = {"aes-256-gcm": "AES-GCM", "aes-128-gcm": "AES-GCM", "chacha20-poly1305": "CHACHA20-POLY1305"}
SCAPY = [*SCAPY_NAMES]


# ---- tshark


def frame(packet: bytes, in_udp: bool) -> bytes:
    """An Ethernet frame to the group, with ESP in UDP or as IP protocol 50."""
    ip = IP(src=SOURCE, dst=GROUP, proto=17 if in_udp else 50)
    if in_udp:
        ip = ip / UDP(sport=4500, dport=4500)
    return bytes.fromhex("01005e7f0102 020000000001 0800") + bytes(ip / Raw(packet))


def judge(folder: Path, suite: str, packets: list[bytes], in_udp: bool) -> list[list[str]]:
    """What tshark says of each packet: ICV good, ICV bad, SPI, sequence number, ports, payload."""
    tshark, capture, key = require_program("tshark"), folder / "esp.pcap", traffic_key(suite)
    capture.write_bytes(pcap_header() + b"".join(pcap_record(n, frame(p, in_udp)) for n, p in enumerate(packets)))
    cipher = "AES-GCM with 16 octet ICV [RFC4106]"  # the name without "16 octet" takes the ICV for data
    association = f'"IPv4","*","{GROUP}","0x{key.spi:08x}","{cipher}","0x{key.reveal().hex()}","NULL",""'
    fields = ("esp.icv_good", "esp.icv_bad", "esp.spi", "esp.sequence", "udp.port", "data.data")
    command = [tshark, "-r", str(capture), "-T", "fields", "-E", "separator=|", "-E", "occurrence=a"]
    for option in (
        "esp.enable_encryption_decode:TRUE",
        "esp.enable_authentication_check:TRUE",
        f"uat:esp_sa:{association}",
    ):
        command += ["-o", option]
    for field in fields:
        command += ["-e", field]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [line.split("|") for line in said.splitlines()]


@pytest.mark.parametrize("in_udp", [True, False], ids=["udp", "protocol-50"])
@pytest.mark.parametrize("suite", ["aes-256-gcm", "aes-128-gcm"])  # tshark 4.0 has no ChaCha20 in ESP
def test_tshark_decrypts_ours_and_finds_the_icv_good(tmp_path: Path, suite: str, in_udp: bool) -> None:
    sender = outbound(suite)
    [batch] = sender.seal_batches([PAYLOAD] * 2, 5004, 5006)
    together, size = bytes(batch.view), batch.segment_size
    packets = [together[:size], together[size:], sender.seal(PAYLOAD[:-1], 5004, 5006)]
    found = judge(tmp_path, suite, packets, in_udp)
    payloads = [PAYLOAD, PAYLOAD, PAYLOAD[:-1]]
    for number, (said, payload) in enumerate(zip(found, payloads, strict=True), start=1):
        assert said[:2] == ["1", "0"]
        assert int(said[2], 16) == traffic_key(suite).spi
        assert said[3] == str(number)
        assert said[4].endswith("5004,5006")
        assert said[5] == payload.hex()


@pytest.mark.parametrize("place", [12, 16, 30, -1])  # IV, ciphertext, ICV
def test_tshark_finds_a_flipped_bit(tmp_path: Path, place: int) -> None:
    broken = bytearray(outbound().seal(PAYLOAD, 5004, 5006))
    broken[place] ^= 1
    [said] = judge(tmp_path, "aes-256-gcm", [bytes(broken)], in_udp=True)
    assert said[:2] == ["0", "1"]


# ---- scapy


def scapy_association(suite: str) -> SecurityAssociation:
    key = traffic_key(suite)
    return SecurityAssociation(ESP, spi=key.spi, crypt_algo=SCAPY_NAMES[suite], crypt_key=key.reveal())


def scapy_packet(suite: str, sequence: int, payload: bytes = PAYLOAD) -> bytes:
    """An IPv4 datagram that scapy sealed, with an IV and a UDP checksum of its own."""
    plain = IP(src=SOURCE, dst=GROUP) / UDP(sport=5004, dport=5006) / Raw(payload)
    return bytes(scapy_association(suite).encrypt(IP(bytes(plain)), seq_num=sequence))


@pytest.mark.parametrize("suite", SCAPY)
def test_scapy_opens_ours(suite: str) -> None:
    datagram = IP(bytes(IP(src=SOURCE, dst=GROUP, proto=50) / Raw(outbound(suite).seal(PAYLOAD, 5004, 5006))))
    opened = scapy_association(suite).decrypt(datagram)
    assert (opened[UDP].sport, opened[UDP].dport, opened[UDP].len) == (5004, 5006, 8 + len(PAYLOAD))
    assert bytes(opened[UDP].payload) == PAYLOAD


@pytest.mark.parametrize("suite", SCAPY)
def test_ours_opens_scapys(suite: str) -> None:
    receiver = inbound(suite)
    for sequence, payload in ((1, PAYLOAD), (7, b"")):
        opened = receiver.open(parse_ip(memoryview(scapy_packet(suite, sequence, payload))), SOURCE)
        assert (opened.sender_id, opened.sequence, opened.payload) == (SENDER, sequence, payload)
        assert (opened.source_port, opened.destination_port) == (5004, 5006)


@pytest.mark.parametrize("suite", SCAPY)
def test_ours_opens_scapys_in_batches(suite: str) -> None:
    packets = [bytes(parse_ip(memoryview(scapy_packet(suite, n, PAYLOAD[n:] + PAYLOAD[:n])))) for n in (1, 2, 3)]
    batch = open_together(inbound(suite), packets)
    assert [p for run in batch.runs for p in run.payloads] == [PAYLOAD[n:] + PAYLOAD[:n] for n in (1, 2, 3)]


@pytest.mark.parametrize("suite", SCAPY)
def test_both_notice_tampering(suite: str) -> None:
    broken = bytearray(outbound(suite).seal(PAYLOAD, 5004, 5006))
    broken[20] ^= 1
    with pytest.raises(IPSecIntegrityError):
        scapy_association(suite).decrypt(IP(bytes(IP(src=SOURCE, dst=GROUP, proto=50) / Raw(bytes(broken)))))
    theirs = bytearray(parse_ip(memoryview(scapy_packet(suite, 1))))
    theirs[20] ^= 1
    receiver: InboundAssociations = inbound(suite)
    with pytest.raises(Rejected, match="integrity"):
        receiver.open(bytes(theirs), SOURCE)
