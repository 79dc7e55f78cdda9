"""A subscriber with every permission records the bus, a capture the wire, for a whole conference: no key is in either.

What is looked for: group keys of all epochs, the keys derived from them, conference keys, the keys derived from those,
private keys, plaintext. As they are, in hexadecimal, in base64. That the search finds what is there is shown by
planting keys on purpose.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from mcsa.broker import Grant
from mcsa.domain.files import DomainFiles
from mcsa.domain.processes import INFRASTRUCTURE
from mcsa.errors import Rejected
from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.inbound import InboundAssociations
from mcsa.esp.suite import suite_named
from mcsa.keys import ConferenceKey, GroupKey
from mcsa.laboratory.capture import Capture
from mcsa.laboratory.packets import parse_packet, parse_pcap
from mcsa.shell.nkeys import load_or_make_nkey
from mcsa.updates import PORT as UPDATE_PORT
from services.csm.terms import CONTROL_PORT
from tests.domain.bus_recorder import NAME
from tests.domain.running import RunningDomain
from tests.judges import require_program

LINE = "the budget of next year is 4711 and nobody may know"
DOMAIN = "test.example"


class TappedFiles(DomainFiles):
    """A broker that lets one more in, and that one read everything."""

    @property
    def tap(self) -> Path:
        return self.folder / "wiretap.nkey"

    def grants(self, hosts: list[str]) -> list[Grant]:
        public = load_or_make_nkey(self.tap).public
        return [*super().grants(hosts), Grant(public, NAME, ["wiretap.planted"], [">"])]


def forms(secret: bytes) -> dict[str, bytes]:
    """How a key may be written down. Base64 of the whole, and of each alignment inside something longer."""
    found = {"raw": secret, "hex": secret.hex().encode(), "HEX": secret.hex().upper().encode()}
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + secret)[4 if shift else 0 : -4]
        found[f"base64+{shift}"] = text[: len(secret)]
    return found


def leaks(recordings: Iterable[bytes], secrets: dict[str, bytes]) -> list[str]:
    """Which secrets are in a recording, in which form."""
    whole = b"\0".join(recordings)
    return [
        f"{name} ({form})" for name, secret in secrets.items() for form, text in forms(secret).items() if text in whole
    ]


def test_the_search_finds_a_key_in_each_form() -> None:
    key = bytes(range(100, 132))
    for written in (key, key.hex().encode(), base64.b64encode(key), base64.b64encode(b"x" + key + b"yz")):
        assert leaks([b"before " + written + b" after"], {"a key": key})
    assert not leaks([b"before " + key[:-1] + b" after"], {"a key": key})


async def tapped_conference(domain: RunningDomain, folder: Path) -> dict[str, bytes]:
    """A conference with a rekey and an ejection in it; all secrets that there were."""
    secrets: dict[str, bytes] = {}
    await domain.gather()
    await domain.conferences["alice"].send(LINE)
    for user in ("bob", "carol"):
        await domain.hears(user, LINE)
    _conference_secrets(domain, secrets)
    await domain.conferences["alice"].eject(domain.id_of("carol"))
    await domain.keyed("alice", "bob", after=max(s.state.key_epoch for s in domain.conferences.values()) - 1)
    await domain.until(lambda: _two(domain), 10.0)
    await domain.conferences["bob"].send(LINE)
    await domain.hears("alice", LINE)
    _conference_secrets(domain, secrets)
    await domain.conferences["bob"].leave()
    await domain.conferences["alice"].leave()
    for line in (folder / "keys").read_text().splitlines():
        told = json.loads(line)
        key = GroupKey(bytes.fromhex(told["key"]))
        secrets[f"group key of epoch {told['epoch']}"] = key.reveal()
        for sender_id in range(1, 8):
            derived = derive_traffic_key(
                key, DOMAIN, bytes.fromhex(told["group"]), told["epoch"], suite_named("aes-256-gcm"), sender_id
            )
            secrets[f"traffic key {told['epoch']}/{sender_id}"] = derived.reveal()
    for kind, name in (("user", "alice"), ("user", "bob"), ("host", "alpha"), ("authorizer", "main")):
        private = domain.files.credentials(kind, name).private_key.private_numbers().private_value
        secrets[f"private key of {kind} {name}"] = private.to_bytes(32, "big")
    return secrets


async def _two(domain: RunningDomain) -> bool:
    return len(domain.conferences["alice"].state.participants) == 2


def _conference_secrets(domain: RunningDomain, secrets: dict[str, bytes]) -> None:
    for user, conference in domain.conferences.items():
        if conference.state.state == "active":
            raw = conference.reveal_key()
            secrets[f"conference key {ConferenceKey(raw).fingerprint} of {user}"] = raw


def _opened(frames: list[bytes], keys: Path) -> bytes:
    """The plaintext of all ESP on the wire, for who has every group key."""
    associations: dict[str, InboundAssociations] = {}
    for line in keys.read_text().splitlines():
        told = json.loads(line)
        if told["group"] not in associations:
            group_id = bytes.fromhex(told["group"])
            associations[told["group"]] = InboundAssociations(DOMAIN, group_id, suite_named("aes-256-gcm"), 65_536)
        associations[told["group"]].install(told["epoch"], GroupKey(bytes.fromhex(told["key"])))
    plaintext = []
    for association in associations.values():
        packets = [packet for packet in map(parse_packet, frames) if packet is not None]
        association.set_roster({sid: p.source for sid in range(1, 20) for p in packets[:1]}, ())
        for packet in packets:
            if packet.destination_port == 4500:
                association.set_roster(dict.fromkeys(range(1, 20), packet.source), ())
                try:
                    plaintext.append(bytes(association.open(packet.payload, packet.source).payload))
                except Rejected:
                    continue
    return b"\0".join(plaintext)


def _tshark_reads(capture: Path, keys: Path, address: str) -> list[tuple[str, str, str]]:
    """Of each ESP packet to an address: whether its ICV is good, whether bad, UDP ports outside and inside."""
    command = [require_program("tshark"), "-r", str(capture), "-Y", f"esp && ip.dst == {address}"]
    command += ["-T", "fields", "-E", "separator=|", "-E", "occurrence=a"]
    command += ["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]
    for line in keys.read_text().splitlines():
        told = json.loads(line)
        for sender_id in range(1, 8):
            group = GroupKey(bytes.fromhex(told["key"])), DOMAIN, bytes.fromhex(told["group"]), told["epoch"]
            key = derive_traffic_key(*group, suite_named("aes-256-gcm"), sender_id)
            where = f'"IPv4","*","{address}","0x{key.spi:08x}"'
            cipher = f'"AES-GCM with 16 octet ICV [RFC4106]","0x{key.reveal().hex()}","NULL",""'
            command += ["-o", f"uat:esp_sa:{where},{cipher}"]
    for field in ("esp.icv_good", "esp.icv_bad", "udp.port"):
        command += ["-e", field]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [(good, bad, ports) for good, bad, ports in (line.split("|") for line in said.splitlines())]


@pytest.mark.timeout(180)
async def test_no_key_and_no_word_is_on_bus_or_wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCSA_TEST_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("MCSA_OFFLOAD", "false")  # so that a frame in the capture is one datagram
    files = TappedFiles(tmp_path / "domain", DOMAIN)
    spying = {"msm-alpha": "tests.domain.spying_msm"}
    async with RunningDomain(tmp_path, ("alice", "bob", "carol"), spying, files) as domain:
        broker = domain.processes.broker
        infrastructure = domain.laboratory[INFRASTRUCTURE]
        arguments = ["--bus", broker.url, "--nkey", str(files.tap)]
        recorder = infrastructure.popen(
            [sys.executable, "-m", "tests.domain.bus_recorder", *arguments, "--output", str(tmp_path / "bus")],
            stdout=subprocess.PIPE,
        )
        assert recorder.stdout is not None and recorder.stdout.readline() == b"recording\n"
        capture = Capture(domain.laboratory.bridge, tmp_path / "wire.pcap", broker.port)
        secrets = await tapped_conference(domain, tmp_path)
        capture.stop()
        bus, wire = (tmp_path / "bus").read_bytes(), (tmp_path / "wire.pcap").read_bytes()
        frames = [frame for _, frame in parse_pcap(wire)]

        # both recordings have the conference in them
        assert b"register" in bus and b"group-changed" in bus and b"_INBOX" in bus
        assert sum(packet is not None and packet.destination_port == 4500 for packet in map(parse_packet, frames)) > 50
        assert sum("conference key" in name for name in secrets) == 5
        assert sum("group key" in name for name in secrets) >= 4

        assert leaks([bus, wire], secrets) == []
        assert LINE.encode() not in bus and LINE.encode() not in wire

        # tshark, given the keys, finds the packets of the control group good, and our ports inside
        address = domain.conferences["alice"].state.groups[0].address
        read = _tshark_reads(tmp_path / "wire.pcap", tmp_path / "keys", address)
        assert len(read) > 50
        verdicts = Counter((good, bad) for good, bad, _ in read)
        # the update that told of the first member is under a key of no member; it is sent three times
        unreadable = verdicts.pop(("", ""), 0)
        assert set(verdicts) == {("1", "0")} and unreadable <= 3
        inner = Counter(ports.rsplit(",", 1)[-1] for _, _, ports in read)
        assert inner[str(CONTROL_PORT)] > 40 and inner[str(UPDATE_PORT)] > 5

        # who has every group key, as the Authorizer has, reads who speaks and not what is said
        plaintext = _opened(frames, tmp_path / "keys")
        assert b"spiffe://test.example/user/alice" in plaintext
        assert LINE.encode() not in plaintext
        assert not [name for name in leaks([plaintext], secrets) if "conference key" in name or "private" in name]

        # the same search, with keys leaked on purpose: one on the bus in base64, one on the wire as it is
        group_key = next(secret for name, secret in secrets.items() if name.startswith("group key"))
        conference_key = next(secret for name, secret in secrets.items() if name.startswith("conference key"))
        second = Capture(domain.laboratory.bridge, tmp_path / "second.pcap", broker.port)
        planting = [sys.executable, "-m", "tests.domain.bus_recorder", *arguments]
        await asyncio.to_thread(infrastructure.run, [*planting, "--say", base64.b64encode(group_key).decode()])
        with domain.laboratory["alpha"].inside():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as leak:
                leak.sendto(b"oops " + conference_key, (infrastructure.address, 9))
        await asyncio.sleep(0.3)
        second.stop()
        bus, wire = (tmp_path / "bus").read_bytes(), (tmp_path / "second.pcap").read_bytes()
        found = leaks([bus, wire], secrets)
        assert any(name.startswith("group key") and "base64" in name for name in found)
        assert any(name.startswith("conference key") and "raw" in name for name in found)
