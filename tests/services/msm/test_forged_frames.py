"""A real receiver on a real wire, and somebody who sends any frame he likes: every byte of every header changed.

What an attacker changes outside of ESP (Ethernet, IP, UDP) nothing of ours covers; what is promised is that the
application hears each payload at most once, unchanged, under its sender's ID.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcsa.esp.outbound import OutboundAssociation
from mcsa.laboratory.namespaces import Laboratory
from tests.services.msm.link import Host, key_of, raw_door, until

ALPHA, GAMMA = 1, 2
ETHERNET, IPV4, UDP, ESP = 14, 20, 8, 16  # bytes of each header


class Wire:
    """A receiver, and a door by which frames in its sender's name get to it."""

    def __init__(self, laboratory: Laboratory, folder: Path, form: str) -> None:
        self.form = form
        self.group = laboratory.plan.group(81)
        self.source = laboratory["alpha"].address
        self.stranger = laboratory["beta"].address
        self.receiver = Host(laboratory, "gamma", folder, self.group, wire=form)
        self.receiver.key({ALPHA: self.source, GAMMA: self.receiver.address}, GAMMA)
        self.sender = OutboundAssociation(key_of(ALPHA))
        self.door = raw_door(laboratory, "mallory")
        self._mac = bytes.fromhex("01005e") + bytes(int(n) for n in self.group.split("."))[1:]

    def frame(self, packet: bytes, source: str = "", options: bytes = b"", fragment: int = 0) -> bytes:
        """With right checksums: the IP header's made, UDP's 0, "none was computed" (RFC 768)."""
        inside = struct.pack(">HHHH", 4500, 4500, 8 + len(packet), 0) + packet if self.form == "udp" else packet
        return self.ip(inside, source, options, fragment)

    def ip(self, inside: bytes, source: str = "", options: bytes = b"", fragment: int = 0) -> bytes:
        addresses = [bytes(int(n) for n in address.split(".")) for address in (source or self.source, self.group)]
        first = 0x40 | (IPV4 + len(options)) // 4
        protocol = 17 if self.form == "udp" else 50
        length = IPV4 + len(options) + len(inside)
        header = struct.pack(">BBHHHBBH", first, 0, length, 7, fragment, 2, protocol, 0) + b"".join(addresses) + options
        return self._mac + bytes.fromhex("020000000001 0800") + with_checksum(header) + inside

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self.door.send(frame)

    def seal(self, payload: bytes) -> bytes:
        return self.sender.seal(payload, 5004, 5004)

    def close(self) -> None:
        self.door.close()
        self.receiver.close()


def with_checksum(header: bytes) -> bytes:
    """An IPv4 header with its checksum (RFC 1071)."""
    words = struct.unpack(f">{len(header) // 2}H", header[:10] + bytes(2) + header[12:])
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack(">H", ~total & 0xFFFF) + header[12:]


@pytest.fixture(params=["udp", "esp"])
def wire(request: pytest.FixtureRequest, laboratory: Laboratory, tmp_path: Path) -> Iterator[Wire]:
    made = Wire(laboratory, tmp_path, request.param)
    yield made
    made.close()


def changed(frame: bytes, places: range) -> Iterator[bytes]:
    """The frame with one of its bytes changed to each of the 255 other values."""
    for place in places:
        for value in range(1, 256):
            yield frame[:place] + bytes((frame[place] ^ value,)) + frame[place + 1 :]


def test_a_changed_byte_of_any_esp_header_reaches_no_application(wire: Wire) -> None:
    start = ETHERNET + IPV4 + (UDP if wire.form == "udp" else 0)
    good = wire.frame(wire.seal(b"the only one"))
    wire.send(*changed(good, range(start, start + ESP)))
    wire.send(good, wire.frame(wire.seal(b"the next")))
    assert [wire.receiver.hear() for _ in range(2)] == [(ALPHA, b"the only one"), (ALPHA, b"the next")]
    dropped = wire.receiver.dropped()
    assert wire.receiver.arrived() == ESP * 255 + 2  # each of them came as far as to us, and was counted
    assert wire.receiver.group.counters()["opened"] == 2
    # Bytes 4 to 15 are the number, which was 1 and so becomes 0 once, and the IV; 0 to 3 are the tag and the sender ID.
    assert (dropped["integrity"], dropped["replay"]) == (12 * 255 - 1, 1)
    assert dropped["unknown-epoch"] > 255
    assert dropped.keys() <= {"integrity", "replay", "unknown-epoch", "unknown-sender", "own"}


def test_bytes_of_ciphertext_and_icv_likewise(wire: Wire) -> None:
    good = wire.frame(wire.seal(b"the only one"))
    start = ETHERNET + IPV4 + (UDP if wire.form == "udp" else 0) + ESP
    amount = len(range(start, len(good))) * 255
    wire.send(*changed(good, range(start, len(good))), good)
    assert wire.receiver.hear() == (ALPHA, b"the only one")
    assert wire.receiver.dropped() == {"integrity": amount}


@pytest.mark.parametrize("mended", [False, True], ids=["checksum left", "checksum mended"])
def test_with_any_changed_byte_around_it_a_packet_is_heard_once_at_most(wire: Wire, mended: bool) -> None:
    """Some of those changes leave a good packet (time to live, a stranger's hardware address): once, unchanged."""
    good = wire.frame(wire.seal(b"the only one"))
    for frame in changed(good, range(ETHERNET + IPV4 + (UDP if wire.form == "udp" else 0))):
        header = frame[ETHERNET : ETHERNET + IPV4]
        wire.send(frame[:ETHERNET] + (with_checksum(header) if mended else header) + frame[ETHERNET + IPV4 :])
    wire.send(good, wire.frame(wire.seal(b"the next")))
    assert [wire.receiver.hear() for _ in range(2)] == [(ALPHA, b"the only one"), (ALPHA, b"the next")]
    assert wire.receiver.group.counters()["opened"] == 2
    assert wire.receiver.arrived() == 2 + sum(wire.receiver.dropped().values())
    if mended:
        assert wire.receiver.dropped()["wrong-source"] >= 4 * 200  # some values are no unicast address: the kernel's


def test_a_stranger_with_a_good_packet_is_not_heard_nor_does_he_use_it_up(wire: Wire) -> None:
    packet = wire.seal(b"said by alpha")
    wire.send(wire.frame(packet, source=wire.stranger), wire.frame(packet), wire.frame(packet, source=wire.stranger))
    wire.send(wire.frame(packet))
    assert wire.receiver.hear() == (ALPHA, b"said by alpha")
    until(lambda: wire.receiver.arrived() == 4)
    assert wire.receiver.dropped() == {"wrong-source": 2, "replay": 1}


def test_ip_options_and_fragments_are_the_kernels_and_change_nothing(wire: Wire) -> None:
    first, second = wire.seal(bytes(400)), wire.seal(b"\1" * 400)
    wire.send(wire.frame(first, options=b"\1\1\1\0"))  # no-operation, end of options
    inside = wire.frame(second)[ETHERNET + IPV4 :]
    wire.send(wire.ip(inside[:200], fragment=0x2000), wire.ip(inside[200:], fragment=200 // 8))
    assert [wire.receiver.hear()[1] for _ in range(2)] == [bytes(400), b"\1" * 400]


def test_a_forged_fragment_makes_the_whole_unauthentic_and_a_lone_one_nothing(wire: Wire) -> None:
    inside = wire.frame(wire.seal(bytes(400)))[ETHERNET + IPV4 :]
    wire.send(wire.ip(inside[:200], fragment=0x2000))
    forged = inside[200:-1] + bytes((inside[-1] ^ 1,))
    wire.send(wire.ip(forged, fragment=200 // 8))  # alpha's second fragment comes too late
    wire.send(wire.ip(inside[200:], fragment=200 // 8))
    wire.send(wire.frame(wire.seal(b"whole")))
    assert wire.receiver.hear() == (ALPHA, b"whole")
    assert wire.receiver.dropped() == {"integrity": 1}


def test_datagrams_of_all_sizes_are_counted(wire: Wire) -> None:
    spi = key_of(ALPHA).spi.to_bytes(4, "big")
    sizes = [*range(0, 70), 1_400, 1_472 if wire.form == "udp" else 1_480]
    wire.send(*(wire.frame((spi + bytes(8) + b"\1" * size)[:size]) for size in sizes))
    until(lambda: wire.receiver.arrived() == len(sizes))
    assert wire.receiver.dropped() == {"short": 44, "replay": len(sizes) - 44}  # 44: the shortest packet there can be
