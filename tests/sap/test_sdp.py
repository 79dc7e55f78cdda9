"""Session descriptions: strict out, liberal in."""

from __future__ import annotations

import pytest

from mcsa.errors import Rejected
from mcsa.sap.sdp import LARGEST_HEARD, MEDIA_AT_ONCE, Media, Sdp, format_sdp, parse_sdp
from mcsa.sap.times import NTP_EPOCH, Adjustment, Period, Repeat
from tests.sap.parts import foreign

NOW_S = 1_800_000_000


def test_out_is_crlf_and_the_order_of_the_grammar():
    sdp = Sdp("- 1 2 IN IP4 192.0.2.1", "title", [Period(100, 200)], [("type", "meeting"), ("recvonly", "")])
    sdp.media.append(Media("audio", 5004, "RTP/AVP", "0", "239.255.0.1", 8, [("ptime", "20")]))
    assert format_sdp(sdp).decode().split("\r\n") == [
        "v=0",
        "o=- 1 2 IN IP4 192.0.2.1",
        "s=title",
        f"t={100 + NTP_EPOCH} {200 + NTP_EPOCH}",
        "a=type:meeting",
        "a=recvonly",
        "m=audio 5004 RTP/AVP 0",
        "c=IN IP4 239.255.0.1/8",
        "a=ptime:20",
        "",
    ]
    assert parse_sdp(format_sdp(sdp)) == sdp


def test_in_takes_line_feeds_unknown_lines_and_attributes_and_the_sessions_address():
    text = b"v=0\no=- 1 2 IN IP4 192.0.2.1\ns=x\nz=0 0\nc=IN IP4 239.1.1.1/3\nt=0 0\na=whatever\n"
    text += b"m=audio 5004/2 RTP/AVP 0 8\n"
    sdp = parse_sdp(text)
    assert (sdp.media[0].address, sdp.media[0].ttl, sdp.media[0].port) == ("239.1.1.1", 3, 5004)
    assert sdp.media[0].formats == "0 8"


def test_ipv6_has_no_ttl():
    sdp = parse_sdp(foreign().replace(b"c=IN IP4 239.255.7.9/5", b"c=IN IP6 ff15::1/3"))
    assert (sdp.media[0].address, sdp.media[0].ttl) == ("ff15::1", 0)
    assert b"c=IN IP6 ff15::1/3\r\n" in format_sdp(sdp)
    assert sdp.addresses() == {"ff15::1", "ff15::2", "ff15::3"}


def test_several_addresses_of_one_medium_are_counted():
    sdp = parse_sdp(foreign().replace(b"239.255.7.9/5", b"239.255.7.9/5/2"))
    assert (sdp.media[0].ttl, sdp.media[0].addresses) == (5, 2)
    assert sdp.addresses() == {"239.255.7.9", "239.255.7.10"}
    assert parse_sdp(format_sdp(sdp)) == sdp
    assert parse_sdp(foreign().replace(b"239.255.7.9/5", b"192.0.2.1")).addresses() == set()
    last = b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/9"
    assert len(parse_sdp(foreign().replace(b"IP4 239.255.7.9/5", b"IP6 " + last)).addresses()) == 2


def test_repeated_sessions_go_in_and_out():
    times = [
        Period(NOW_S, NOW_S + 4 * 604_800, (Repeat(604_800, 3_600, (0, 90_000)), Repeat(86_400, 90, (0,)))),
        Period(NOW_S + 9, 0),
    ]
    sdp = Sdp(
        "- 1 2 IN IP4 192.0.2.1", "title", times, adjustments=[Adjustment(NOW_S, -3_600), Adjustment(NOW_S + 1, 0)]
    )
    sdp.media.append(Media("audio", 5004, "RTP/AVP", "0", "239.255.0.1", 8))
    text = format_sdp(sdp).decode().split("\r\n")
    assert text[3] == f"t={NOW_S + NTP_EPOCH} {NOW_S + NTP_EPOCH + 4 * 604_800}"
    assert text[4:8] == ["r=7d 1h 0 25h", "r=1d 90 0", f"t={NOW_S + NTP_EPOCH + 9} 0", text[7]]
    assert text[7] == f"z={NOW_S + NTP_EPOCH} -1h {NOW_S + NTP_EPOCH + 1} 0"
    assert parse_sdp(format_sdp(sdp)) == sdp
    assert (sdp.start, sdp.end) == (NOW_S, 0)


@pytest.mark.parametrize(
    "lines",
    [
        "r=7d 1h 0",  # of no t=
        "t=0 0\r\nr=7d 1h",
        "t=0 0\r\nr=0 1h 0",
        "t=0 0\r\nr=7w 1h 0",
        "t=0 0\r\nr=7d 1h -1h",
        "t=0 0\r\nr=99999999999999999 1h 0",
        "t=0 0\r\nr=7d 1h" + " 0" * 20,
        "t=0 0\r\n" + "r=7d 1h 0 1 2 3 4 5 6 7 8\r\n" * 4,
        "t=0 0\r\n" * 20,
        "t=0 0\r\nz=3900000000",
        "t=0 0\r\nz=3900000000 3d",
        "t=0 0\r\nz=then 1h",
    ],
)
def test_times_that_are_none_or_too_many_are_rejected(lines: str):
    with pytest.raises(Rejected) as caught:
        parse_sdp(foreign().replace(b"t=0 0", lines.encode().rstrip()))
    assert caught.value.cause == "sdp"


@pytest.mark.parametrize(
    "missing",
    [
        b"v=0\r\n",
        b"o=- 1 1 IN IP4 192.0.2.9\r\n",
        b"s=a film\r\n",
        b"m=audio 5004 RTP/AVP 0\r\n",
        b"c=IN IP4 239.255.7.9/5\r\n",
    ],
)
def test_a_line_that_is_missing_is_named(missing: bytes):
    with pytest.raises(Rejected) as caught:
        parse_sdp(foreign().replace(missing, b""))
    assert caught.value.cause == "missing-line"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"t=0 0", b"t=now then"),
        (b"m=audio 5004 RTP/AVP 0", b"m=audio loud RTP/AVP 0"),
        (b"m=audio 5004 RTP/AVP 0", b"m=audio 70000 RTP/AVP 0"),
        (b"m=audio 5004 RTP/AVP 0", b"m=audio 5004"),
        (b"c=IN IP4 239.255.7.9/5", b"c=IN IP4 nowhere"),
        (b"c=IN IP4 239.255.7.9/5", b"c=IN"),
        (b"s=a film", b"this is no line"),
        (b"s=a film", b"s=\xff\xfe"),
    ],
)
def test_a_line_that_is_none_is_rejected(old: bytes, new: bytes):
    with pytest.raises(Rejected) as caught:
        parse_sdp(foreign().replace(old, new))
    assert caught.value.cause == "sdp"


def test_what_is_too_long_or_has_too_many_media_is_rejected():
    with pytest.raises(Rejected) as caught:
        parse_sdp(foreign() + b"a=x\r\n" * LARGEST_HEARD)
    assert caught.value.cause == "oversize"
    with pytest.raises(Rejected):
        parse_sdp(foreign() + b"m=audio 1 RTP/AVP 0\r\n" * MEDIA_AT_ONCE)
