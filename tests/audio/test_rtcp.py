from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsa.audio.rtcp import Control, First, encode_description, encode_goodbye, encode_report, parse_rtcp
from mcsa.errors import Rejected
from tests.audio.parts import MONO

SSRC = 0xAABBCCDD
REPORT = encode_report(SSRC, now=1.5, timestamp=9, packets=3, octets=2_880)
DESCRIPTION = encode_description(SSRC, "cname", MONO, First(65_535, 2**32 - 1))


def private(prefix: bytes, value: bytes) -> bytes:
    """A report and a description with this private item."""
    items = bytes([8, 1 + len(prefix) + len(value), len(prefix)]) + prefix + value
    items += bytes(4 - len(items) % 4)
    return REPORT + struct.pack(">BBHI", 0x81, 202, 1 + len(items) // 4, SSRC) + items


def test_the_report() -> None:
    ntp = ((2_208_988_800 + 1) << 32) + (1 << 31)  # a second and a half after 1970
    layout = struct.pack(">BBHIQIII", 0x80, 200, 6, SSRC, ntp, 9, 3, 2_880)
    assert encode_report(SSRC, 1.5, 9, 3, 2_880) == layout
    assert parse_rtcp(REPORT) == Control(SSRC, 3, 2_880)


def test_counts_wrap() -> None:
    assert parse_rtcp(encode_report(SSRC, 0.0, 0, 2**32 + 1, 2**32 + 2)) == Control(SSRC, 1, 2)


def test_all_that_a_sender_says() -> None:
    said = parse_rtcp(REPORT + DESCRIPTION + encode_goodbye(SSRC))
    assert said == Control(SSRC, 3, 2_880, (96, MONO), First(65_535, 2**32 - 1), True)


def test_what_is_said_of_others_is_left_out() -> None:
    assert parse_rtcp(REPORT + encode_goodbye(1)) == Control(SSRC, 3, 2_880)
    assert parse_rtcp(REPORT + struct.pack(">BBH", 0x80, 203, 0)) == Control(SSRC, 3, 2_880)  # a goodbye of nobody


def test_private_items_of_others_are_passed_over() -> None:
    assert parse_rtcp(private(b"color", b"red")) == Control(SSRC, 3, 2_880)
    assert parse_rtcp(private(b"rtpmap", b"97 L16/8000")).rtpmap == (97, (8_000, 1))


@pytest.mark.parametrize(
    ("datagram", "cause"),
    [
        (b"", "rtcp: compound"),
        (encode_goodbye(SSRC), "rtcp: compound"),
        (REPORT[:-1], "rtcp: version or length"),
        (REPORT + b"\x81", "rtcp: length"),
        (b"\0" + REPORT[1:], "rtcp: version or length"),
        (struct.pack(">BBHI", 0x80, 200, 1, SSRC), "rtcp: report"),
        (private(b"rtpmap", b"128 L16/8000/1"), "rtcp: rtpmap"),
        (private(b"rtpmap", "² L16/8000/1".encode()), "rtcp: rtpmap"),
        (private(b"rtpmap", b"96 opus/48000/2"), "format"),
        (private(b"RTP-Info", b"seq=65536;rtptime=0"), "rtcp: RTP-Info"),
        (private(b"RTP-Info", b"seq=1"), "rtcp: RTP-Info"),
    ],
)
def test_what_is_no_rtcp(datagram: bytes, cause: str) -> None:
    with pytest.raises(Rejected, match=cause):
        parse_rtcp(datagram)


@given(st.binary(max_size=60))
def test_any_items_are_described_or_rejected(items: bytes) -> None:
    items += bytes(-len(items) % 4)
    try:
        head = struct.pack(">BBHI", 0x81, 202, 1 + len(items) // 4, SSRC)
        assert parse_rtcp(REPORT + head + items).ssrc == SSRC
    except Rejected as rejected:
        assert rejected.cause in ("rtcp", "format")
