"""A WAV file's samples as one RTP stream. The stream is sans-I/O; `send_file` carries it to a local socket."""

from __future__ import annotations

import base64
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

from mcsa.audio.format import AudioFormat
from mcsa.audio.rtcp import First, encode_description, encode_goodbye, encode_report
from mcsa.audio.rtp import RtpPacket
from mcsa.audio.wav import open_wav, swap
from mcsa.errors import Refused
from mcsa.shell.local import connect
from mcsa.shell.local_frames import LARGEST_FRAME, OutgoingFrame

SPEED = 10.0  # times real time, once the part in real time is over: some 1,000 packets a second
REPORT_EVERY = 5.0  # seconds; RFC 3550 section 6.2, the least interval
TOLD_AT_START = 3  # times, so that a lossy network loses the beginning's description seldom
TOLD_AT_END = 8  # times, over `GOODBYE_FOR`
GOODBYE_FOR = 0.4  # seconds
LATEST = 0.05  # seconds behind; more is not caught up with, or a burst would overrun receivers


class RtpSender:
    """One stream: encodes its packets and what is said of it. SSRC and start values are drawn from `random`."""

    def __init__(self, audio_format: AudioFormat, random: Callable[[int], bytes]) -> None:
        self.format = audio_format
        self.ssrc = int.from_bytes(random(4), "big")
        self.first = First(int.from_bytes(random(2), "big"), int.from_bytes(random(4), "big"))
        self.packets = 0
        self.octets = 0
        self._timestamp = self.first.timestamp
        self._cname = base64.b64encode(random(12)).decode()  # RFC 7022 section 5: 96 random bits

    def packet(self, samples: bytes) -> bytes:
        """The next packet, of these samples (little-endian, whole frames)."""
        sequence = (self.first.sequence + self.packets) % 2**16
        packet = RtpPacket(self.format.payload_type, sequence, self._timestamp, self.ssrc, swap(samples))
        self._timestamp = (self._timestamp + len(samples) // self.format.frame_size) % 2**32
        self.packets += 1
        self.octets += len(samples)
        return packet.encode()

    def control(self, now: float, goodbye: bool = False) -> bytes:
        """Report and description, and with `goodbye` the end."""
        said = encode_report(self.ssrc, now, self._timestamp, self.packets, self.octets)
        said += encode_description(self.ssrc, self._cname, self.format, self.first)
        return said + encode_goodbye(self.ssrc) if goodbye else said


def due_after(position: float, real_time_for: float) -> float:
    """When to send, in seconds after the start, what is at `position` seconds of the file."""
    return min(position, real_time_for) + max(0.0, position - real_time_for) / SPEED


class LocalSender:
    """Sends to a group's local socket, at given times. A context manager. `Refused` where the MSM isn't there."""

    def __init__(self, path: Path, port: int) -> None:
        self._port = port
        self._socket = connect(path, socket.SOCK_SEQPACKET)

    def send(self, datagram: bytes) -> None:
        """Waits where the MSM has no room; `Refused` where it has gone."""
        try:
            self._socket.send(OutgoingFrame(self._port, self._port, datagram).encode())
        except OSError as error:
            raise _gone() from error

    def wait(self, until: float) -> None:
        """Until then (`time.monotonic`), reading what the group says: who doesn't read is disconnected."""
        while (left := until - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                continue
            try:
                if not self._socket.recv(LARGEST_FRAME):
                    raise _gone()
            except OSError as error:
                raise _gone() from error

    def __enter__(self) -> LocalSender:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()


def send_file(
    path: Path,
    to: LocalSender,
    random: Callable[[int], bytes],
    real_time_for: float,
    stopped: Callable[[], bool] = lambda: False,
) -> RtpSender:
    """Sends a file: its first `real_time_for` seconds in real time, the rest `SPEED` times as fast, then the goodbye.

    Ends early, with the goodbye, once `stopped`. What was sent is in the sender that is returned.
    """
    recording, audio_format = open_wav(path)
    with recording:
        stream = RtpSender(audio_format, random)
        for _ in range(TOLD_AT_START):
            to.send(stream.control(time.time()))
        started_at, reported_at, position = time.monotonic(), 0.0, 0.0
        while not stopped() and (samples := recording.readframes(audio_format.frames_per_packet)):
            due = due_after(position, real_time_for)
            to.wait(started_at + due)
            started_at = max(started_at, time.monotonic() - due - LATEST)
            if due - reported_at >= REPORT_EVERY:
                to.send(stream.control(time.time()))
                reported_at = due
            to.send(stream.packet(samples))
            position += len(samples) / audio_format.frame_size / audio_format.rate
    for _ in range(TOLD_AT_END):
        to.wait(time.monotonic() + GOODBYE_FOR / TOLD_AT_END)
        to.send(stream.control(time.time(), goodbye=True))
    return stream


def _gone() -> Refused:
    return Refused("audio", "local socket", "The MSM ended, or left the group, while we were sending.")
