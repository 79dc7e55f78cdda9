"""What the samples are: L16 of RFC 3551 section 4.5.11, at some rate, in some channels."""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from mcsa.errors import Rejected

SAMPLE_SIZE = 2  # bytes: 16 bits
DYNAMIC_PAYLOAD_TYPE = 96  # RFC 3551 section 6: the first of those that a session description explains
LONGEST_PAYLOAD = 1_200  # bytes: with RTP and ESP it stays below every MTU in use, so nothing is fragmented
PACKET_RATE = 50  # packets a second: 20 ms each, RFC 3551 section 4.2; more of them where they would be too long
_STATIC = {(44_100, 2): 10, (44_100, 1): 11}  # RFC 3551 table 4
_RTPMAP = re.compile(r"L16/([1-9][0-9]{0,5})(?:/([1-9][0-9]?))?")


class AudioFormat(NamedTuple):
    """Linear 16-bit samples: so many frames a second, so many samples in a frame."""

    rate: int
    channels: int

    @property
    def frame_size(self) -> int:
        """Bytes of one sample of every channel."""
        return SAMPLE_SIZE * self.channels

    @property
    def payload_type(self) -> int:
        """The static one where RFC 3551 gives one, else 96."""
        return _STATIC.get(self, DYNAMIC_PAYLOAD_TYPE)

    @property
    def frames_per_packet(self) -> int:
        """20 ms, halved until the payload is short enough."""
        frames = max(1, self.rate // PACKET_RATE)
        while frames * self.frame_size > LONGEST_PAYLOAD:
            frames //= 2
        return frames

    def __str__(self) -> str:
        """As in an `a=rtpmap` line of SDP: `L16/48000/1`."""
        return f"L16/{self.rate}/{self.channels}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """`L16/48000/2`, or `L16/48000` for one channel; else `Rejected("format")`."""
        if (found := _RTPMAP.fullmatch(text)) is None:
            raise Rejected("format", text[:40])
        return cls(int(found[1]), int(found[2] or 1))


def static_format(payload_type: int) -> AudioFormat | None:
    """What a static payload type says; None for all others."""
    return next((AudioFormat(*found) for found, number in _STATIC.items() if number == payload_type), None)
