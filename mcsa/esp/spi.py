"""Security parameter indexes that say epoch and sender (design, section 7).

    SPI (32 bits, RFC 4303 section 2.1) = epoch tag (12 bits) | sender ID (20 bits)

The tag is never 0, so every SPI is at least 2^20: it can't be one of 0 to 255, which RFC 4303 reserves, nor look like
the non-ESP marker of RFC 3948.
"""

from __future__ import annotations

SENDER_ID_BITS = 20
SENDER_ID_LIMIT = 1 << SENDER_ID_BITS  # sender IDs are below this
EPOCH_TAGS = 4_095  # 12 bits without 0


def epoch_tag(epoch: int) -> int:
    """1 to 4,095. Two epochs have the same tag only where they are a multiple of 4,095 apart."""
    return epoch % EPOCH_TAGS + 1


def spi_for(epoch: int, sender_id: int) -> int:
    """The SPI of this sender in this epoch; `ValueError` where the sender ID has more than 20 bits."""
    if not 0 <= sender_id < SENDER_ID_LIMIT:
        raise ValueError(f"a sender ID has 20 bits; {sender_id} is out of range")
    return epoch_tag(epoch) << SENDER_ID_BITS | sender_id


def split_spi(spi: int) -> tuple[int, int]:
    """Epoch tag and sender ID. The tag is 0 where we made no such SPI."""
    return spi >> SENDER_ID_BITS, spi & (SENDER_ID_LIMIT - 1)
