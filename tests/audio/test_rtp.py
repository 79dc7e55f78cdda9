from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsa.audio.rtp import RtpPacket, is_rtcp, parse_rtp
from mcsa.errors import Rejected

SIXTEEN, WORD = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
PACKET = RtpPacket(96, 0x1234, 0x01020304, 0xAABBCCDD, b"pcm!")
HEAD = bytes.fromhex("1234 01020304 AABBCCDD")


def test_the_layout() -> None:
    assert PACKET.encode() == bytes.fromhex("8060") + HEAD + b"pcm!"


@given(st.builds(RtpPacket, st.integers(0, 127), SIXTEEN, WORD, WORD, st.binary(max_size=50)))
def test_packets_come_back(packet: RtpPacket) -> None:
    assert parse_rtp(packet.encode()) == packet


@pytest.mark.parametrize(
    "datagram",
    [
        b"\x80\xe0" + HEAD + b"pcm!",  # marker
        b"\x82\x60" + HEAD + bytes(8) + b"pcm!",  # two CSRCs
        b"\x90\x60" + HEAD + b"\xbe\xde\0\1" + bytes(4) + b"pcm!",  # extension
        b"\xa0\x60" + HEAD + b"pcm!" + b"\0\0\0\4",  # padding
    ],
)
def test_what_others_may_add_is_taken_off(datagram: bytes) -> None:
    assert parse_rtp(datagram) == PACKET


@pytest.mark.parametrize(
    ("datagram", "detail"),
    [
        (b"", "length"),
        (b"\x80\x60" + HEAD[:-1], "length"),
        (b"\x40\x60" + HEAD, "version"),
        (b"\x82\x60" + HEAD + bytes(7), "CSRC"),
        (b"\x90\x60" + HEAD + bytes(3), "extension"),
        (b"\x90\x60" + HEAD + b"\0\0\0\2" + bytes(7), "extension"),
        (b"\xa0\x60" + HEAD + b"\0\0\0\5", "padding"),
        (b"\xa0\x60" + HEAD + b"\0\0\0\0", "padding"),
    ],
)
def test_what_is_no_packet(datagram: bytes, detail: str) -> None:
    with pytest.raises(Rejected, match=f"rtp: .*{detail}"):
        parse_rtp(datagram)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_packet_or_rejected(datagram: bytes) -> None:
    try:
        assert len(parse_rtp(datagram).payload) <= len(datagram) - 12
    except Rejected as rejected:
        assert rejected.cause == "rtp"


def test_rtcp_is_told_apart() -> None:
    assert not is_rtcp(PACKET.encode())
    assert is_rtcp(b"\x80\xc8")
    assert not is_rtcp(b"\x80")
