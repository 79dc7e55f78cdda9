"""SAP packets."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest

from mcsa.errors import Rejected
from mcsa.sap.packet import PAYLOAD_TYPE, SapPacket, parse_packet
from tests.sap.parts import foreign


@pytest.mark.parametrize("origin", ["192.0.2.1", "2001:db8::1"])
@pytest.mark.parametrize("deletion", [False, True])
def test_what_goes_in_comes_out(origin: str, deletion: bool):
    packet = SapPacket(origin, 0x1234, foreign(), deletion)
    assert parse_packet(packet.encode()) == packet


def test_the_bytes_are_those_of_the_rfc():
    raw = SapPacket("192.0.2.1", 0x1234, b"v=0\r\n").encode()
    assert raw == bytes([0x20, 0, 0x12, 0x34, 192, 0, 2, 1]) + b"application/sdp\0v=0\r\n"


def test_authentication_data_is_passed_over_by_words_and_the_payload_type_may_be_missing():
    raw = bytes([0x20, 2, 0x12, 0x34, 192, 0, 2, 1]) + b"12345678" + foreign()
    assert parse_packet(raw).payload == foreign()


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (b"", "sap"),
        (bytes([0x20, 0, 1]), "sap"),
        (bytes([0x20, 0, 1, 2, 192, 0]), "sap"),
        (bytes([0x20, 200, 1, 2, 192, 0, 2, 1]) + foreign(), "sap"),
        (bytes([0x30, 0, 1, 2, 192, 0, 2, 1]) + b"v=0", "sap"),
        (bytes([0x00, 0, 1, 2, 192, 0, 2, 1]) + foreign(), "sap-version"),
        (bytes([0x40, 0, 1, 2, 192, 0, 2, 1]) + foreign(), "sap-version"),
        (bytes([0x22, 0, 1, 2, 192, 0, 2, 1]) + foreign(), "sap-encrypted"),
        (bytes([0x21, 0, 1, 2, 192, 0, 2, 1]) + foreign(), "sap-compressed"),
        (bytes([0x20, 0, 1, 2, 192, 0, 2, 1]) + b"text/plain\0hello", "sap-payload-type"),
        (bytes([0x20, 0, 1, 2, 192, 0, 2, 1]) + PAYLOAD_TYPE[:-1], "sap-payload-type"),
    ],
)
def test_what_is_no_packet_is_rejected(raw: bytes, cause: str):
    with pytest.raises(Rejected) as caught:
        parse_packet(raw)
    assert caught.value.cause == cause


# ---- compression: read, bounded, never written


def compressed(rest: bytes) -> bytes:
    return bytes([0x21, 0, 0x12, 0x34, 192, 0, 2, 1]) + zlib.compress(rest, 9)


@pytest.mark.parametrize("kind", [PAYLOAD_TYPE, b""], ids=["with a payload type", "without"])
def test_what_is_compressed_is_read(kind: bytes):
    assert parse_packet(compressed(kind + foreign())).payload == foreign()
    deletion = bytes([0x25]) + compressed(kind + b"o=- 1 1 IN IP4 192.0.2.9\r\n")[1:]
    assert parse_packet(deletion).deletion


def test_a_bomb_is_not_unpacked():
    bomb = compressed(PAYLOAD_TYPE + foreign() + b"a=x\r\n" * 10_000_000)
    tracemalloc.start()
    with pytest.raises(Rejected) as caught:
        parse_packet(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.cause == "sap-compressed" and peak < 1 << 20


def test_what_is_compressed_and_cut_off_or_none_is_rejected():
    whole = compressed(PAYLOAD_TYPE + foreign())
    for raw in (whole[:-1], whole[:20], whole[:9] + b"\x00" + whole[10:], whole[:8] + b"no zlib"):
        with pytest.raises(Rejected) as caught:
            parse_packet(raw)
        assert caught.value.cause == "sap-compressed"


def test_nothing_of_ours_is_compressed_or_authenticated():
    flags, auth_words = SapPacket("192.0.2.1", 1, foreign(), deletion=True, authenticated=True).encode()[:2]
    assert (flags, auth_words) == (0x24, 0)
