"""What the judges of ESP share: the variants, frames on a wire, tshark's opinion, scapy's association."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Packet, Raw

from mcsa.esp.derive import TrafficKey
from mcsa.laboratory.packets import pcap_header, pcap_record
from tests.esp.parts import SUITES, traffic_key
from tests.judges import require_program

PAYLOAD = b"what the judge has to find"
SOURCE_PORT, PORT = 5004, 5006
SCAPY_NAMES = {"aes-256-gcm": "AES-GCM", "aes-128-gcm": "AES-GCM", "chacha20-poly1305": "CHACHA20-POLY1305"}
TSHARK_CIPHER = "AES-GCM with 16 octet ICV [RFC4106]"  # the name without "16 octet" takes the ICV for data
_ADDRESSES = {4: ("198.18.0.5", "239.255.1.2"), 6: ("fd00::5", "ff15::1:2")}  # source, group
_ETHERNET = {  # to the group's address: RFC 1112 section 6.4, RFC 2464 section 7
    4: bytes.fromhex("01005e7f0102 020000000001 0800"),
    6: bytes.fromhex("333300010002 020000000001 86dd"),
}


@dataclass(frozen=True)
class Variant:
    """One way in which our packets stand on a wire."""

    suite: str
    wire: Literal["udp", "protocol-50"]
    ip: Literal[4, 6]

    def __str__(self) -> str:
        return f"{self.suite} {self.wire} ipv{self.ip}"

    @property
    def source(self) -> str:
        return _ADDRESSES[self.ip][0]

    @property
    def group(self) -> str:
        return _ADDRESSES[self.ip][1]

    def network(self) -> Packet:
        """All headers before ESP, for scapy; lengths and checksums are made when there is something behind them."""
        protocol = 17 if self.wire == "udp" else 50
        header: Packet = (
            IP(src=self.source, dst=self.group, proto=protocol)
            if self.ip == 4
            else IPv6(src=self.source, dst=self.group, nh=protocol)
        )
        return header / UDP(sport=4500, dport=4500) if self.wire == "udp" else header

    def datagram(self, packet: bytes) -> bytes:
        """The IP datagram that carries this ESP packet."""
        return bytes(self.network() / Raw(packet))

    def frame(self, packet: bytes) -> bytes:
        """The Ethernet frame that carries it."""
        return _ETHERNET[self.ip] + self.datagram(packet)


VARIANTS = [Variant(suite, wire, ip) for suite, wire, ip in product(SUITES, ("udp", "protocol-50"), (4, 6))]  # type: ignore[arg-type]
TSHARK_VARIANTS = [v for v in VARIANTS if "gcm" in v.suite]  # tshark 4.0 has no ChaCha20 in ESP


@dataclass(frozen=True)
class Verdict:
    """What tshark says of one frame."""

    protocols: str
    icv: str  # "good", "bad" or "unchecked"
    spi: int
    sequence: int
    ports: tuple[str, str]  # of the innermost UDP header, "" where there is none
    checksums: tuple[str, ...]  # of each UDP header, outermost first: "good", "bad", "unverified", "absent", "illegal"
    payload: bytes
    complaints: str


_FIELDS = (
    "frame.protocols",
    "esp.icv_good",
    "esp.icv_bad",
    "esp.spi",
    "esp.sequence",
    "udp.srcport",
    "udp.dstport",
    "udp.checksum.status",
    "data.data",
    "_ws.expert.message",
)
_CHECKSUMS = ("bad", "good", "unverified", "absent", "illegal")  # wireshark's proto_checksum_enum_e


def association_for(version: int, destination: str, key: TrafficKey) -> str:
    """A line of tshark's table of associations."""
    keys = f'"0x{key.spi:08x}","{TSHARK_CIPHER}","0x{key.reveal().hex()}","NULL",""'
    return f'"IPv{version}","*","{destination}",{keys}'


def ask_tshark(capture: Path, associations: Sequence[str], *, checksums: bool = True) -> list[Verdict]:
    """What tshark says of each ESP packet in a pcap file. `checksums`: whether those of UDP are checked."""
    command = [require_program("tshark"), "-r", str(capture), "-Y", "esp"]
    command += ["-T", "fields", "-E", "separator=|", "-E", "occurrence=a"]
    options = [
        "esp.enable_encryption_decode:TRUE",
        "esp.enable_authentication_check:TRUE",
        "udp.check_checksum:" + str(checksums).upper(),
    ]
    for option in options + [f"uat:esp_sa:{association}" for association in associations]:
        command += ["-o", option]
    for name in _FIELDS:
        command += ["-e", name]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [_verdict(line.split("|", len(_FIELDS) - 1)) for line in said.splitlines()]


def _verdict(said: list[str]) -> Verdict:
    protocols, good, bad, spi, sequence, sources, destinations, checksums, payload, complaints = said
    return Verdict(
        protocols=protocols,
        icv={("1", "0"): "good", ("0", "1"): "bad"}.get((good, bad), "unchecked"),
        spi=int(spi, 16),
        sequence=int(sequence),
        ports=(sources.split(",")[-1], destinations.split(",")[-1]),
        checksums=tuple(_CHECKSUMS[int(status)] for status in checksums.split(",") if status),
        payload=bytes.fromhex(payload),
        complaints=complaints,
    )


def write_capture(capture: Path, frames: Sequence[bytes]) -> None:
    """Frames as a pcap file, one second apart."""
    capture.write_bytes(pcap_header() + b"".join(pcap_record(at, frame) for at, frame in enumerate(frames)))


def scapy_association(suite: str, key: TrafficKey | None = None) -> SecurityAssociation:
    """One sender's association, of scapy's making; it seals into protocol 50."""
    key = key or traffic_key(suite)
    return SecurityAssociation(ESP, spi=key.spi, crypt_algo=SCAPY_NAMES[suite], crypt_key=key.reveal())
