from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsa.errors import Rejected
from mcsa.esp.inner import MAX_PAYLOAD
from mcsa.esp.relayed import MAX_RELAYED, ORIGIN_SIZE, Origin, parse_relayed
from mcsa.esp.spi import SENDER_ID_LIMIT
from tests.esp.parts import SOURCE, inbound, outbound


def test_the_layout() -> None:
    origin = Origin(sender_id=0x12345, epoch=0x0102030405060708, sequence=0xA0B0C0D0)
    assert origin.encode().hex() == "00012345a0b0c0d00102030405060708"
    assert ORIGIN_SIZE == 16


@given(
    st.integers(0, SENDER_ID_LIMIT - 1), st.integers(0, 2**64 - 1), st.integers(1, 2**32 - 1), st.binary(max_size=50)
)
def test_what_is_written_is_read(sender_id: int, epoch: int, sequence: int, payload: bytes) -> None:
    origin = Origin(sender_id, epoch, sequence)
    assert parse_relayed(origin.encode() + payload) == (origin, payload)


@pytest.mark.parametrize("size", range(ORIGIN_SIZE))
def test_too_short(size: int) -> None:
    with pytest.raises(Rejected) as rejected:
        parse_relayed(Origin(1, 1, 1).encode()[:size])
    assert (rejected.value.cause, rejected.value.detail) == ("relayed-malformed", "short")


@pytest.mark.parametrize("origin", [Origin(SENDER_ID_LIMIT, 1, 1), Origin(2**32 - 1, 1, 1), Origin(1, 1, 0)])
def test_an_origin_that_can_not_be(origin: Origin) -> None:
    with pytest.raises(Rejected) as rejected:
        parse_relayed(origin.encode() + b"payload")
    assert (rejected.value.cause, rejected.value.detail) == ("relayed-malformed", "origin")


def test_the_longest_that_can_be_relayed_fits_a_packet() -> None:
    inside = Origin(1, 1, 1).encode() + bytes(MAX_RELAYED)
    assert len(inside) == MAX_PAYLOAD
    assert inbound().open(outbound().seal(inside, 1, 2), SOURCE).payload == inside
    with pytest.raises(ValueError):
        outbound().seal(inside + b"x", 1, 2)
