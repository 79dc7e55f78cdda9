from __future__ import annotations

import pytest

from mcsa.audio.format import LONGEST_PAYLOAD, AudioFormat, static_format
from mcsa.errors import Rejected


def test_payload_types() -> None:
    assert AudioFormat(44_100, 2).payload_type == 10
    assert AudioFormat(44_100, 1).payload_type == 11
    assert AudioFormat(48_000, 1).payload_type == 96
    assert [static_format(number) for number in (10, 11, 96)] == [AudioFormat(44_100, 2), AudioFormat(44_100, 1), None]


@pytest.mark.parametrize(("rate", "channels", "frames"), [(8_000, 1, 160), (48_000, 1, 480), (48_000, 2, 240)])
def test_packets_are_20_ms_or_short_enough(rate: int, channels: int, frames: int) -> None:
    assert AudioFormat(rate, channels).frames_per_packet == frames
    assert frames * 2 * channels <= LONGEST_PAYLOAD


def test_text() -> None:
    assert AudioFormat.parse("L16/48000/2") == AudioFormat(48_000, 2)
    assert AudioFormat.parse("L16/48000") == AudioFormat(48_000, 1)
    assert AudioFormat.parse(str(AudioFormat(44_100, 1))) == AudioFormat(44_100, 1)


@pytest.mark.parametrize("text", ["", "L24/48000/1", "L16/0/1", "L16/48000/0", "L16/48000/100", "L16/1000000", "L16/x"])
def test_texts_that_are_none(text: str) -> None:
    with pytest.raises(Rejected, match="format"):
        AudioFormat.parse(text)
