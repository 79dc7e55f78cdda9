"""A real receiver on a real wire, and somebody who sends any frame he likes: every byte of every header changed.

What an attacker changes outside of ESP (Ethernet, IP, UDP) nothing of ours covers; what is promised is that the
application hears each payload at most once, unchanged, under its sender's ID.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from itertools import islice
from pathlib import Path

import pytest

from mcsa.esp.outbound import OutboundAssociation
from mcsa.laboratory.namespaces import Laboratory
from tests.services.msm.link import Host, group_ethernet, key_of, raw_door, until

ALPHA, GAMMA = 1, 2
ETHERNET, UDP, ESP = 14, 8, 16  # bytes of each header
IP = {4: 20, 6: 40}
UDP_PROTOCOL, ESP_PROTOCOL, FRAGMENT, OPTIONS = 17, 50, 44, 60  # IANA protocol numbers


class Wire:
    """A receiver, and a door by which frames in its sender's name get to it."""

    def __init__(self, laboratory: Laboratory, folder: Path, form: str, ip: int) -> None:
        self.form, self.ip = form, ip
        self.group = laboratory.plan.group(81) if ip == 4 else laboratory.plan.group6(81)
        self.source, self.stranger = (
            laboratory[name].address if ip == 4 else laboratory[name].address6 for name in ("alpha", "beta")
        )
        self.receiver = Host(laboratory, "gamma", folder, self.group, wire=form)
        self.receiver.key({ALPHA: self.source, GAMMA: self.receiver.address}, GAMMA)
        self.sender = OutboundAssociation(key_of(ALPHA))
        self.door = raw_door(laboratory, "mallory")
        self.around = ETHERNET + IP[ip] + (UDP if form == "udp" else 0)  # bytes before ESP

    def frame(self, packet: bytes, source: str = "") -> bytes:
        """With right checksums."""
        return self.datagram(self.inside(packet, source), source)

    def inside(self, packet: bytes, source: str = "") -> bytes:
        """What is behind the IP header. UDP's checksum is 0 over IPv4: "none was computed" (RFC 768)."""
        if self.form == "esp":
            return packet
        header = struct.pack(">HHH", 4500, 4500, 8 + len(packet))
        if self.ip == 4:
            return header + bytes(2) + packet
        pseudo = self._addresses(source) + struct.pack(">II", 8 + len(packet), UDP_PROTOCOL)  # RFC 8200 section 8.1
        return header + (checksum(pseudo + header + bytes(2) + packet) or b"\xff\xff") + packet

    def datagram(
        self, inside: bytes, source: str = "", options: bytes = b"", fragment: int = -1, more: int = 0
    ) -> bytes:
        """`options` in whole units of 4 bytes, or 8 over IPv6; `fragment` is its offset in bytes."""
        protocol, addresses = UDP_PROTOCOL if self.form == "udp" else ESP_PROTOCOL, self._addresses(source)
        if self.ip == 4:
            first, length = 0x40 | (20 + len(options)) // 4, 20 + len(options) + len(inside)
            place = max(fragment, 0) // 8 | more << 13
            header = struct.pack(">BBHHHBBH", first, 0, length, 7, place, 2, protocol, 0) + addresses + options
            return group_ethernet(self.group) + with_checksum(header) + inside
        if options:
            inside, protocol = bytes((protocol, len(options) // 8 - 1)) + options[2:] + inside, OPTIONS
        if fragment >= 0:
            inside, protocol = struct.pack(">BBHI", protocol, 0, fragment | more, 7) + inside, FRAGMENT
        header = struct.pack(">IHBB", 6 << 28, len(inside), protocol, 2)
        return group_ethernet(self.group) + header + addresses + inside

    def _addresses(self, source: str) -> bytes:
        return ip_address(source or self.source).packed + ip_address(self.group).packed

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self.door.send(frame)

    def send_slowly(self, frames: Iterable[bytes], *, all_arrive: bool = True) -> None:
        """So that a busy machine loses none on the way: the queues between two hosts hold 1,000 frames."""
        waiting = iter(frames)
        while some := list(islice(waiting, 250)):
            arrived = self.receiver.arrived()
            self.send(*some)
            if all_arrive:
                until(partial(self._have_arrived, arrived + len(some)))
            else:
                time.sleep(0.002)

    def _have_arrived(self, amount: int) -> bool:
        return self.receiver.arrived() == amount

    def hear(self, frame: bytes) -> tuple[int, bytes]:
        """What the application hears of a good packet, which is sent again if it was lost on the way."""
        self.receiver.application.settimeout(0.5)
        for _ in range(40):
            self.send(frame)
            with suppress(TimeoutError):
                return self.receiver.hear()
        raise AssertionError("it never came")

    def seal(self, payload: bytes) -> bytes:
        return self.sender.seal(payload, 5004, 5004)

    def mend(self, frame: bytes) -> bytes:
        """The frame as an attacker would send it who changed something around the packet: checksums right again."""
        header, inside = frame[ETHERNET : ETHERNET + IP[self.ip]], frame[ETHERNET + IP[self.ip] :]
        if self.ip == 4:
            header = with_checksum(header)
        elif self.form == "udp":
            pseudo = header[8:] + struct.pack(">II", len(inside), UDP_PROTOCOL)
            made = checksum(pseudo + inside[:6] + bytes(2) + inside[8:])
            inside = inside[:6] + (made or b"\xff\xff") + inside[8:]
        return frame[:ETHERNET] + header + inside

    def close(self) -> None:
        self.door.close()
        self.receiver.close()


def checksum(content: bytes) -> bytes:
    """RFC 1071."""
    total = sum(struct.unpack(f">{(len(content) + 1) // 2}H", content + bytes(len(content) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)


def with_checksum(header: bytes) -> bytes:
    """An IPv4 header with its checksum."""
    return header[:10] + checksum(header[:10] + bytes(2) + header[12:]) + header[12:]


@pytest.fixture(params=[(form, ip) for form in ("udp", "esp") for ip in (4, 6)], ids="{0[0]} ipv{0[1]}".format)
def wire(request: pytest.FixtureRequest, laboratory: Laboratory, tmp_path: Path) -> Iterator[Wire]:
    made = Wire(laboratory, tmp_path, *request.param)
    yield made
    made.close()


def changed(content: bytes, places: range) -> Iterator[bytes]:
    """The same with one of these bytes changed to each of the 255 other values."""
    for place in places:
        for value in range(1, 256):
            yield content[:place] + bytes((content[place] ^ value,)) + content[place + 1 :]


def test_a_changed_byte_of_any_esp_header_reaches_no_application(wire: Wire) -> None:
    packet = wire.seal(b"the only one")
    wire.send_slowly(map(wire.frame, changed(packet, range(ESP))))
    wire.send(wire.frame(packet), wire.frame(wire.seal(b"the next")))
    assert [wire.receiver.hear() for _ in range(2)] == [(ALPHA, b"the only one"), (ALPHA, b"the next")]
    dropped = wire.receiver.dropped()
    assert wire.receiver.arrived() == ESP * 255 + 2  # each of them came as far as to us, and was counted
    assert wire.receiver.group.counters()["opened"] == 2
    # Bytes 4 to 15 are the number, which was 1 and so becomes 0 once, and the IV; 0 to 3 are the tag and the sender ID.
    assert (dropped["integrity"], dropped["replay"]) == (12 * 255 - 1, 1)
    assert dropped["unknown-epoch"] > 255
    assert dropped.keys() <= {"integrity", "replay", "unknown-epoch", "unknown-sender", "own"}


def test_bytes_of_ciphertext_and_icv_likewise(wire: Wire) -> None:
    packet = wire.seal(b"the only one")
    behind = range(ESP, len(packet))
    wire.send_slowly(map(wire.frame, changed(packet, behind)))
    wire.send(wire.frame(packet))
    assert wire.receiver.hear() == (ALPHA, b"the only one")
    assert wire.receiver.dropped() == {"integrity": len(behind) * 255}


@pytest.mark.parametrize("mended", [False, True], ids=["checksum left", "checksum mended"])
def test_with_any_changed_byte_around_it_a_packet_is_heard_once_at_most(wire: Wire, mended: bool) -> None:
    """Some of those changes leave a good packet (time to live, a stranger's hardware address): once, unchanged."""
    good = wire.frame(wire.seal(b"the only one"))
    frames = changed(good, range(wire.around))
    wire.send_slowly(map(wire.mend, frames) if mended else frames, all_arrive=False)
    # One of those may have been good enough to be heard already.
    assert wire.hear(good) == (ALPHA, b"the only one")
    assert wire.hear(wire.frame(wire.seal(b"the next"))) == (ALPHA, b"the next")
    assert wire.receiver.group.counters()["opened"] == 2
    assert wire.receiver.arrived() == 2 + sum(wire.receiver.dropped().values())
    if mended:
        assert wire.receiver.dropped()["wrong-source"] >= 3 * 200  # some values are no unicast address: the kernel's


def test_a_stranger_with_a_good_packet_is_not_heard_nor_does_he_use_it_up(wire: Wire) -> None:
    packet = wire.seal(b"said by alpha")
    wire.send(wire.frame(packet, source=wire.stranger), wire.frame(packet), wire.frame(packet, source=wire.stranger))
    wire.send(wire.frame(packet))
    assert wire.receiver.hear() == (ALPHA, b"said by alpha")
    until(lambda: wire.receiver.arrived() == 4)
    assert wire.receiver.dropped() == {"wrong-source": 2, "replay": 1}


def test_ip_options_and_fragments_are_the_kernels_and_change_nothing(wire: Wire) -> None:
    first, second = wire.seal(bytes(400)), wire.seal(b"\1" * 400)
    options = b"\1\1\1\0" if wire.ip == 4 else bytes((0, 0, 1, 4, 0, 0, 0, 0))  # padding only
    wire.send(wire.datagram(wire.inside(first), options=options))
    inside = wire.inside(second)
    wire.send(wire.datagram(inside[:200], fragment=0, more=1), wire.datagram(inside[200:], fragment=200))
    assert [wire.receiver.hear()[1] for _ in range(2)] == [bytes(400), b"\1" * 400]


def test_a_forged_fragment_makes_the_whole_unauthentic(wire: Wire) -> None:
    packet = wire.seal(bytes(400))
    inside, forged = wire.inside(packet), wire.inside(packet[:-1] + bytes((packet[-1] ^ 1,)))
    begin = forged if wire.ip == 6 else inside  # the checksum of UDP is an attacker's to mend
    wire.send(wire.datagram(begin[:200], fragment=0, more=1), wire.datagram(forged[200:], fragment=200))
    wire.send(wire.datagram(inside[200:], fragment=200))  # alpha's second fragment comes too late, and is nobody's
    wire.send(wire.frame(wire.seal(b"whole")))
    assert wire.receiver.hear() == (ALPHA, b"whole")
    assert wire.receiver.dropped() == {"integrity": 1}


def test_datagrams_of_all_sizes_are_counted(wire: Wire) -> None:
    spi = key_of(ALPHA).spi.to_bytes(4, "big")
    empty = (wire.form, wire.ip) == ("esp", 6)  # an IPv6 packet with nothing in it: Linux keeps it to itself
    sizes = [*range(1 if empty else 0, 70), 1_400, 1_500 + ETHERNET - wire.around]
    wire.send(*(wire.frame((spi + bytes(8) + b"\1" * size)[:size]) for size in sizes))
    until(lambda: wire.receiver.arrived() == len(sizes))
    assert wire.receiver.dropped() == {
        "short": 44 - sizes[0],
        "replay": len(sizes) - 44 + sizes[0],
    }  # 44: the shortest packet there can be
