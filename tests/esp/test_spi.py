from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsa.esp.spi import EPOCH_TAGS, SENDER_ID_LIMIT, epoch_tag, spi_for, split_spi

EPOCHS = st.integers(0, 2**64 - 1)
SENDER_IDS = st.integers(0, SENDER_ID_LIMIT - 1)


@given(EPOCHS, SENDER_IDS)
def test_an_spi_says_tag_and_sender_and_is_never_a_reserved_one(epoch: int, sender_id: int) -> None:
    spi = spi_for(epoch, sender_id)
    assert split_spi(spi) == (epoch_tag(epoch), sender_id)
    assert 1 << 20 <= spi < 1 << 32  # RFC 4303 section 2.1 reserves 1 to 255; 0 is the non-ESP marker


@given(EPOCHS)
def test_a_tag_has_12_bits_and_is_never_0(epoch: int) -> None:
    assert 1 <= epoch_tag(epoch) <= 4_095


@given(EPOCHS, st.integers(1, EPOCH_TAGS - 1))
def test_epochs_less_than_4095_apart_have_different_tags(epoch: int, later: int) -> None:
    assert epoch_tag(epoch) != epoch_tag(epoch + later)
    assert epoch_tag(epoch) == epoch_tag(epoch + EPOCH_TAGS)


@pytest.mark.parametrize("sender_id", [-1, SENDER_ID_LIMIT])
def test_a_sender_id_has_20_bits(sender_id: int) -> None:
    with pytest.raises(ValueError, match="20 bits"):
        spi_for(1, sender_id)
