from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsa.esp.inner import MAX_PAYLOAD, frame_for, framed_size, payload_end

PORTS = st.integers(0, 65_535)


@given(st.binary(max_size=300), PORTS, PORTS)
def test_a_frame_is_a_udp_header_and_an_esp_trailer(payload: bytes, source: int, destination: int) -> None:
    before, after = frame_for(len(payload), source, destination)
    plaintext = before + payload + after
    assert before == b"".join(n.to_bytes(2, "big") for n in (source, destination, 8 + len(payload), 0))
    assert len(plaintext) % 4 == 0  # RFC 4303 section 2.4
    assert after[-1] == 17
    assert after[:-2] == bytes(range(1, after[-2] + 1))
    assert len(after) <= 5
    assert len(plaintext) == framed_size(len(payload))
    assert plaintext[8 : payload_end(plaintext)] == payload


def test_more_padding_than_needed_is_taken() -> None:  # RFC 4303 section 2.4: up to 255 bytes
    before, _ = frame_for(6, 1, 2)
    assert payload_end(before + b"abcdef" + bytes(range(1, 253)) + bytes((252, 17))) == 14
    assert payload_end(before + b"abcdef" + bytes(range(1, 256)) + bytes((255, 17))) == 14


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        bytes((1, 17)),
        bytes(4) + bytes((0, 8, 0, 0)) + bytes((0, 6)),  # next header TCP
        bytes(4) + bytes((0, 8, 0, 0)) + bytes((0, 59)),  # a dummy packet, RFC 4303 section 2.6
        bytes(4) + bytes((0, 9, 0, 0)) + bytes((0, 17)),  # UDP length over the end
        bytes(4) + bytes((0, 7, 0, 0)) + bytes((1, 1, 17)),  # UDP length shorter than its header
        bytes(4) + bytes((0, 8, 0, 0)) + b"more" + bytes((0, 17)),  # UDP length before the end
        bytes(4) + bytes((0, 8, 0, 0)) + bytes((1, 3, 2, 17)),  # padding isn't 1, 2
        bytes(4) + bytes((0, 8, 0, 0)) + bytes((200, 17)),  # more padding than there is
    ],
)
def test_what_is_malformed_has_no_end(plaintext: bytes) -> None:
    assert payload_end(plaintext) == 0


@given(st.binary(max_size=64))
def test_no_plaintext_breaks_it(plaintext: bytes) -> None:
    end = payload_end(plaintext)
    assert end == 0 or 8 <= end <= len(plaintext) - 2


def test_what_udp_does_not_carry_is_our_bug() -> None:
    assert framed_size(MAX_PAYLOAD) + 32 <= 65_507
    with pytest.raises(ValueError, match="longer"):
        frame_for(MAX_PAYLOAD + 1, 1, 2)
