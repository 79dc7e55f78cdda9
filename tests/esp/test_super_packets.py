"""Super-packets, without an interface (`tests/shell/test_tun.py` has one)."""

from __future__ import annotations

import pytest

from mcsa.esp.ip import write_headers
from mcsa.esp.super_packets import VNET_HEADER, most_segments, split, write_super_headers

SOURCE, GROUP = bytes([198, 18, 0, 1]), bytes([239, 1, 2, 3])


@pytest.mark.parametrize(
    ("size", "segment", "expected"),
    [(10, 0, [10]), (0, 0, [0]), (10, 10, [10]), (3, 10, [3]), (30, 10, [10, 10, 10]), (31, 10, [10, 10, 10, 1])],
)
def test_it_is_split_at_each_segment(size: int, segment: int, expected: list[int]) -> None:
    content = bytes(range(size))
    parts = split(b"head" + content + b"tail", 4, 4 + size, segment)
    assert [len(part) for part in parts] == expected
    assert b"".join(parts) == content


def test_what_goes_before_one_or_many() -> None:
    one = write_super_headers(SOURCE, GROUP, 1, 2, 0, 1, 100, 0)
    assert VNET_HEADER.unpack_from(one) == (1, 0, 0, 0, 20, 6)
    assert one[10:] == write_headers(SOURCE, GROUP, 1, 2, 0, 1, 100)
    many = write_super_headers(SOURCE, GROUP, 1, 2, 0, 1, 3_000, 1_000)
    assert VNET_HEADER.unpack_from(many) == (1, 5, 28, 1_000, 20, 6)
    assert many[10:] == write_headers(SOURCE, GROUP, 1, 2, 0, 1, 3_000)


@pytest.mark.parametrize(
    ("size", "most", "most_6"), [(0, 1, 1), (1, 64, 64), (1_400, 46, 46), (65_507, 1, 1), (32_753, 2, 1)]
)
def test_as_many_as_a_packet_carries(size: int, most: int, most_6: int) -> None:
    assert most_segments(SOURCE, size) == most
    assert most_segments(bytes(16), size) == most_6
