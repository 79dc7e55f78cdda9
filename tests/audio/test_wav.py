from __future__ import annotations

import wave
from pathlib import Path

import pytest

from mcsa.audio import wav
from mcsa.audio.format import AudioFormat
from mcsa.audio.wav import WavWriter, open_wav, swap, tone, write_wav
from mcsa.errors import Refused, Rejected
from tests.audio.parts import MONO


@pytest.mark.parametrize("audio_format", [MONO, AudioFormat(44_100, 2), AudioFormat(8_000, 1)])
def test_what_is_written_is_read(tmp_path: Path, audio_format: AudioFormat) -> None:
    samples = tone(audio_format, 0.1)
    write_wav(tmp_path / "a.wav", audio_format, samples)
    recording, found = open_wav(tmp_path / "a.wav")
    with recording:
        assert found == audio_format
        assert recording.readframes(audio_format.rate) == samples


def test_a_tone_is_the_same_each_time_and_not_silence() -> None:
    assert tone(MONO, 0.1) == tone(MONO, 0.1)
    assert len(tone(MONO)) == 5 * 48_000 * 2
    assert max(memoryview(tone(MONO, 0.1)).cast("h")) > 16_000


def test_swap() -> None:
    assert swap(b"\1\2\3\4") == b"\2\1\4\3"


@pytest.mark.parametrize("width", [1, 3, 4])
def test_other_samples_are_refused(tmp_path: Path, width: int) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(8_000)
        file.writeframes(bytes(width * 8))
    with pytest.raises(Refused, match=f"{8 * width}-bit samples in 1 channels; only 16-bit"):
        open_wav(tmp_path / "a.wav")


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no WAV file at all", b"RIFF\4\0\0\0WAVE"])
def test_what_is_no_wav_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(Refused, match="isn't a PCM WAV file"):
        open_wav(tmp_path / "a.wav")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file"):
        open_wav(tmp_path / "a.wav")


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="can't be written"):
        WavWriter(tmp_path / "none" / "a.wav", MONO)


def test_frames_in_any_order_with_silence_between(tmp_path: Path) -> None:
    with WavWriter(tmp_path / "a.wav", MONO) as writer:
        writer.write(3, b"\7\0")
        writer.write(0, b"\5\0")
        writer.extend(5)
    recording, _ = open_wav(tmp_path / "a.wav")
    with recording:
        assert recording.readframes(9) == b"\5\0" + bytes(4) + b"\7\0" + bytes(2)


def test_a_file_is_valid_before_it_is_closed_and_closes_twice(tmp_path: Path) -> None:
    writer = WavWriter(tmp_path / "a.wav", MONO)
    recording, found = open_wav(tmp_path / "a.wav")
    assert (recording.getnframes(), found) == (0, MONO)
    recording.close()
    writer.close()
    writer.close()


def test_no_more_than_a_wav_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wav, "LARGEST", 100)
    with WavWriter(tmp_path / "a.wav", MONO) as writer:
        writer.write(49, b"\1\0")
        with pytest.raises(Rejected, match="length"):
            writer.write(50, b"\1\0")
        writer.extend(1_000)
        assert writer.frames == 50
