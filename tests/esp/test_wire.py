from __future__ import annotations

import pytest

from mcsa.errors import Rejected
from mcsa.esp.wire import parse_ip, parse_udp
from tests.esp.parts import outbound

PACKET = outbound().seal(b"hello", 1, 2)


def ipv4(payload: bytes, options: bytes = b"", protocol: int = 50, version: int = 4) -> bytes:
    words = 5 + len(options) // 4
    header = bytes((version << 4 | words, 0)) + (words * 4 + len(payload)).to_bytes(2, "big") + bytes(4)
    return header + bytes((1, protocol, 0, 0)) + bytes(8) + options + payload


def test_udp_carries_it_as_it_is() -> None:
    parsed = parse_udp(memoryview(PACKET))
    assert parsed is not None
    assert bytes(parsed) == PACKET


def test_a_keepalive_is_no_packet() -> None:
    assert parse_udp(memoryview(b"\xff")) is None


@pytest.mark.parametrize(
    ("datagram", "cause"), [(b"", "short"), (b"\xff\xff", "short"), (bytes(4) + b"ike", "non-esp")]
)
def test_what_udp_rejects(datagram: bytes, cause: str) -> None:
    with pytest.raises(Rejected) as rejected:
        parse_udp(memoryview(datagram))
    assert rejected.value.cause == cause


@pytest.mark.parametrize("options", [b"", bytes(8)])
def test_a_raw_socket_shows_the_ip_header_too(options: bytes) -> None:
    assert parse_ip(memoryview(ipv4(PACKET, options))) == PACKET


@pytest.mark.parametrize(
    ("datagram", "cause"),
    [
        (ipv4(b"")[:19], "short"),
        (ipv4(PACKET, protocol=17), "non-esp"),
        (ipv4(PACKET, version=6), "non-esp"),
        (b"\x44" + ipv4(PACKET)[1:], "non-esp"),  # a header of 16 bytes
    ],
)
def test_what_ip_rejects(datagram: bytes, cause: str) -> None:
    with pytest.raises(Rejected) as rejected:
        parse_ip(memoryview(datagram))
    assert rejected.value.cause == cause
