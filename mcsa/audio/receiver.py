"""RTP streams into WAV files. `Receiver` needs no socket; `receive_files` feeds it from a local one."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mcsa.audio.format import AudioFormat, static_format
from mcsa.audio.rtcp import Control, First, parse_rtcp
from mcsa.audio.rtp import RtpPacket, is_rtcp, parse_rtp
from mcsa.audio.stream import ReceivedStream
from mcsa.errors import Rejected
from mcsa.shell.local_frames import LARGEST_FRAME, parse_incoming

MOST_STREAMS = 16  # files that others can make us write; further streams are counted
REORDERED_FOR = 0.5  # seconds to wait after the last goodbye for packets that were overtaken
POLL_FOR = 0.1  # seconds between looks at the signal and the clock


class StreamId(NamedTuple):
    """Whose stream, and which: another member's SSRC can't be taken."""

    sender_id: int
    ssrc: int


class Receiver:
    """All streams of a group's port. The first is written to `path`, the others beside it, with their SSRC's name.

    `dynamic` says what the samples are where neither the payload type nor the sender does.
    """

    def __init__(self, path: Path, dynamic: AudioFormat) -> None:
        self.streams: dict[StreamId, ReceivedStream] = {}
        self.rejected: Counter[str] = Counter()
        self._path = path
        self._dynamic = dynamic

    def take(self, sender_id: int, datagram: bytes) -> None:
        """A datagram of the group; what isn't RTP or RTCP is counted in `rejected`."""
        try:
            if is_rtcp(datagram):
                self._hear(sender_id, parse_rtcp(datagram))
            else:
                self._take_packet(sender_id, parse_rtp(datagram))
        except Rejected as rejected:
            self.rejected[rejected.cause] += 1

    @property
    def ended(self) -> bool:
        """There was a stream, and each has ended."""
        return bool(self.streams) and all(stream.ended for stream in self.streams.values())

    @property
    def complete(self) -> bool:
        """No packet is missing in any stream."""
        return all(stream.lost == 0 for stream in self.streams.values())

    def close(self) -> None:
        """Completes the files. May be called twice."""
        for stream in self.streams.values():
            stream.close()

    def report(self) -> dict[str, Any]:
        """What came, stream by stream, and what was dropped, by cause."""
        streams = [
            {"sender_id": of.sender_id, "ssrc": f"{of.ssrc:08x}", **stream.report()}
            for of, stream in self.streams.items()
        ]
        return {"streams": streams, "rejected": dict(self.rejected)}

    def _take_packet(self, sender_id: int, packet: RtpPacket) -> None:
        stream_id = StreamId(sender_id, packet.ssrc)
        if stream_id not in self.streams:
            audio_format = static_format(packet.payload_type) or self._dynamic
            self._begin(stream_id, audio_format, packet.payload_type, None)
        self.streams[stream_id].take(packet)

    def _hear(self, sender_id: int, said: Control) -> None:
        stream_id = StreamId(sender_id, said.ssrc)
        if stream_id not in self.streams:
            if said.rtpmap is None:
                return  # nothing to write it as: its packets will say
            payload_type, audio_format = said.rtpmap
            begins = said.packets == 0  # else we came late: no silence for what we never were to hear
            self._begin(stream_id, audio_format, payload_type, said.first if begins else None)
        self.streams[stream_id].hear(said)

    def _begin(self, of: StreamId, audio_format: AudioFormat, payload_type: int, first: First | None) -> None:
        if len(self.streams) >= MOST_STREAMS:
            raise Rejected("streams")
        path = self._path
        if self.streams:
            path = path.with_stem(f"{path.stem}.{of.sender_id}.{of.ssrc:08x}")
        self.streams[of] = ReceivedStream(path, audio_format, payload_type, first)


def receive_files(connection: socket.socket, receiver: Receiver, port: int | None, stopped: Callable[[], bool]) -> None:
    """Until all streams have ended, `stopped`, or the MSM has gone; then the files are complete.

    After the last goodbye it waits `REORDERED_FOR` where packets are still missing. `port` None: whatever port.
    """
    connection.settimeout(POLL_FOR)
    ended_at = None
    try:
        while not stopped():
            if receiver.ended:
                ended_at = ended_at or time.monotonic()
                if receiver.complete or time.monotonic() - ended_at > REORDERED_FOR:
                    return
            try:
                received = connection.recv(LARGEST_FRAME)
            except TimeoutError:
                continue
            except OSError:
                return
            if not received:
                return
            frame = parse_incoming(received)
            if port in (None, frame.destination_port):
                receiver.take(frame.sender_id, frame.payload)
    finally:
        receiver.close()
