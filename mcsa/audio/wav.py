"""WAV files with 16-bit PCM samples, and nothing else. Samples in them are little-endian."""

from __future__ import annotations

import math
import os
import struct
import sys
import wave
from array import array
from pathlib import Path

from mcsa.audio.format import SAMPLE_SIZE, AudioFormat
from mcsa.errors import Refused, Rejected

CODE = "wav"
MOST_CHANNELS = 99
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")  # RIFF, one fmt chunk, one data chunk
_PCM = 1  # WAVE_FORMAT_PCM
LARGEST = 2**32 - 1 - _HEADER.size  # bytes of samples: RIFF counts in 32 bits


def open_wav(path: Path) -> tuple[wave.Wave_read, AudioFormat]:
    """A file to read frames from. `Refused` where it can't be read or isn't 16-bit PCM."""
    try:
        opened = wave.open(str(path), "rb")  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise Refused(CODE, "readable", f"{path} can't be read: {error.strerror}.") from error
    except (wave.Error, EOFError) as error:
        raise Refused(CODE, "PCM", f"{path} isn't a PCM WAV file ({error or 'it ends early'}). {_way_out()}") from error
    if opened.getsampwidth() != SAMPLE_SIZE or not 0 < opened.getnchannels() <= MOST_CHANNELS:
        said = f"{8 * opened.getsampwidth()}-bit samples in {opened.getnchannels()} channels"
        opened.close()
        raise Refused(CODE, "16 bits", f"{path} has {said}; only 16-bit samples are sent. {_way_out()}")
    return opened, AudioFormat(opened.getframerate(), opened.getnchannels())


def _way_out() -> str:
    return "Convert it: ffmpeg -i FILE -c:a pcm_s16le NEW.wav"


def write_wav(path: Path, audio_format: AudioFormat, samples: bytes) -> None:
    """Writes a whole file. Samples are little-endian."""
    with WavWriter(path, audio_format) as writer:
        writer.write(0, samples)


def swap(samples: bytes) -> bytes:
    """Little-endian samples as big-endian ones (L16 is), or the other way round."""
    swapped = array("h", samples)
    swapped.byteswap()
    return swapped.tobytes()


def tone(audio_format: AudioFormat, seconds: float = 5.0, pitch: float = 440.0) -> bytes:
    """Samples of a tone that swells and fades, at half the full scale; the same bytes each time."""
    samples = array("h")
    frames = round(seconds * audio_format.rate)
    for frame in range(frames):
        loudness = 16_384 * math.sin(math.pi * frame / frames)
        value = round(loudness * math.sin(2 * math.pi * pitch * frame / audio_format.rate))
        samples.extend([value] * audio_format.channels)
    return samples.tobytes() if sys.byteorder == "little" else swap(samples.tobytes())


class WavWriter:
    """A file that takes frames in any order; what is never written is silence. A context manager.

    It is a valid, empty WAV file from the start, and a complete one after `close`. `Refused` where it can't be made.
    """

    def __init__(self, path: Path, audio_format: AudioFormat) -> None:
        self.path = path
        self.format = audio_format
        self.frames = 0
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise Refused(CODE, "writable", f"{path} can't be written: {error.strerror}.") from error
        self._write_header()

    def write(self, frame: int, samples: bytes) -> None:
        """Puts samples (little-endian) at a frame; `Rejected("length")` beyond the 4 GiB of a WAV file."""
        start = frame * self.format.frame_size
        if start + len(samples) > LARGEST:
            raise Rejected("length", "a WAV file holds no more than 4 GiB")
        os.pwrite(self._file.fileno(), samples, _HEADER.size + start)
        self.frames = max(self.frames, frame + len(samples) // self.format.frame_size)

    def extend(self, frames: int) -> None:
        """Makes the file at least so long, with silence; no longer than a WAV file may be."""
        self.frames = max(self.frames, min(frames, LARGEST // self.format.frame_size))

    def close(self) -> None:
        """May be called twice."""
        if not self._file.closed:
            self._write_header()
            self._file.truncate(_HEADER.size + self.frames * self.format.frame_size)
            self._file.close()

    def __enter__(self) -> WavWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write_header(self) -> None:
        size, rate, frame_size = self.frames * self.format.frame_size, self.format.rate, self.format.frame_size
        fmt = (b"fmt ", 16, _PCM, self.format.channels, rate, rate * frame_size, frame_size, 8 * SAMPLE_SIZE)
        header = _HEADER.pack(b"RIFF", _HEADER.size - 8 + size, b"WAVE", *fmt, b"data", size)
        os.pwrite(self._file.fileno(), header, 0)
