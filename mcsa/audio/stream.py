"""One received stream: from packets in any order to a WAV file, and what was lost on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mcsa.audio.format import AudioFormat
from mcsa.audio.rtcp import Control, First
from mcsa.audio.rtp import RtpPacket
from mcsa.audio.sequence import SequenceNumbers
from mcsa.audio.wav import WavWriter, swap
from mcsa.errors import Rejected

MOST_GAPS = 1_000  # that are told one by one; the frames of all are counted
_MODULUS = 2**32


class ReceivedStream:
    """Writes each packet's samples where its timestamp says, so that what is lost stays silent.

    `first` is the stream's first packet where the sender told it; else the file starts with the first that came.
    """

    def __init__(self, path: Path, audio_format: AudioFormat, payload_type: int, first: First | None) -> None:
        self.numbers = SequenceNumbers(first.sequence if first else None)
        self.ended = False
        self._payload_type = payload_type
        self._first = first
        self._base = first.timestamp if first else None
        self._sent: int | None = None  # packets, as far as the sender told
        self._sent_octets = 0
        self._written = 0  # frames
        self._gaps: list[tuple[int, int]] = []  # frames from, to; ascending
        self._file = WavWriter(path, audio_format)

    @property
    def lost(self) -> int:
        """Packets that were sent, as far as we know, and didn't come."""
        return max(self.numbers.expected, self._sent or 0) - self.numbers.received

    def take(self, packet: RtpPacket) -> None:
        """A packet of this stream; `Rejected` where it can't be one."""
        frame_size = self._file.format.frame_size
        if packet.payload_type != self._payload_type:
            raise Rejected("payload-type")
        if not packet.payload or len(packet.payload) % frame_size:
            raise Rejected("payload", "not whole frames")
        base = packet.timestamp if self._base is None else self._base
        position = (packet.timestamp - base) % _MODULUS
        if position >= _MODULUS // 2:
            raise Rejected("timestamp", "before the first")
        if not self.numbers.take(packet.sequence):
            return
        self._base = base
        end = position + len(packet.payload) // frame_size
        self._close_gap(position, end)
        self._file.write(position, swap(packet.payload))
        self._written += end - position

    def hear(self, said: Control) -> None:
        """What the sender says of it."""
        if said.packets is not None:
            self._sent = max(self._sent or 0, said.packets)
            self._sent_octets = max(self._sent_octets, said.octets or 0)
        self.ended = self.ended or said.goodbye

    def close(self) -> None:
        """Makes the file as long as what was sent, where that is known. May be called twice."""
        if self._first is not None and self.ended:
            frames = self._sent_octets // self._file.format.frame_size
            if frames > self._file.frames:
                self._gaps.append((self._file.frames, frames))
                self._file.extend(frames)
        self._file.close()

    def report(self) -> dict[str, Any]:
        """What came, in packets; `gaps` in seconds from the file's beginning. `complete`: nothing at all is missing."""
        rate = self._file.format.rate
        gaps = [{"at": round(start / rate, 6), "for": round((end - start) / rate, 6)} for start, end in self._gaps]
        return {
            "file": str(self._file.path),
            "format": str(self._file.format),
            "seconds": round(self._file.frames / rate, 6),
            "sent": self._sent,
            "received": self.numbers.received,
            "lost": self.lost,
            "duplicates": self.numbers.duplicates,
            "reordered": self.numbers.reordered,
            "silent_frames": max(0, self._file.frames - self._written),
            "gaps": gaps[:MOST_GAPS],
            "ended": self.ended,
            "complete": self.ended and self._sent is not None and self.lost == 0,
        }

    def _close_gap(self, start: int, end: int) -> None:
        """Notes that these frames came; what is between them and the file's end is a gap until it comes, too."""
        if start > self._file.frames:
            self._gaps.append((self._file.frames, start))
        for place in range(len(self._gaps) - 1, -1, -1):
            gap_start, gap_end = self._gaps[place]
            if gap_end <= start:
                return
            if gap_start < end:
                parts = (gap_start, min(start, gap_end)), (max(end, gap_start), gap_end)
                self._gaps[place : place + 1] = [part for part in parts if part[0] < part[1]]
