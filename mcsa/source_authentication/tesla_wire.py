"""The three packets of mode `tesla`; what they say is in `tesla.py`.

content, disclosure   kind (1 byte) | interval (8) | MAC (16) | key of interval - d (32) | payload, or none
bootstrap             kind (1)      | first interval (8) | intervals (4) | commitment (32) | signature (64)
"""

from __future__ import annotations

import hmac
import struct
from typing import NamedTuple

from mcsa.encoding import encode_parts
from mcsa.errors import Rejected
from mcsa.esp.relayed import Origin
from mcsa.source_authentication.interface import Content, Setting, counted
from mcsa.source_authentication.key_chain import KEY_SIZE, mac_key
from mcsa.source_authentication.source_key import SIGNATURE_SIZE

NAME = "tesla"
CONTENT, BOOTSTRAP, DISCLOSURE = 0, 1, 2
NOTICE = Content(0, 0, b"")  # what the mode has to say itself
Ports = tuple[int, int]
MAC_SIZE = 16  # bytes of the HMAC: 128 bits, as the ICV has
_PROVED = struct.Struct(f">BQ{MAC_SIZE}s{KEY_SIZE}s")
_BOOTSTRAP = struct.Struct(f">BQI{KEY_SIZE}s{SIGNATURE_SIZE}s")
OVERHEAD = _PROVED.size


class Timed(NamedTuple):
    """Content or disclosure."""

    kind: int
    interval: int
    mac: bytes
    disclosed: bytes
    payload: bytes

    def encode(self) -> bytes:
        """As above."""
        return _PROVED.pack(self.kind, self.interval, self.mac, self.disclosed) + self.payload


class Bootstrap(NamedTuple):
    """What a chain begins with."""

    first: int
    length: int
    commitment: bytes
    signature: bytes = bytes(SIGNATURE_SIZE)

    def encode(self) -> bytes:
        """As above."""
        return _BOOTSTRAP.pack(BOOTSTRAP, *self)

    def signed(self, setting: Setting, origin: Origin, ports: Ports) -> bytes:
        """What the source's signature is over: this very packet of it, and the policy's interval and d."""
        policy = setting.policy
        schedule = policy.tesla_interval_ms, policy.tesla_disclosure
        begin, packet = setting.bind(NAME, origin), counted(origin.sequence, *ports)
        return encode_parts(begin, "bootstrap", packet, *schedule, self.first, self.length, self.commitment)


def parse(raw: bytes) -> Timed | Bootstrap:
    """`Rejected("source-malformed")`."""
    kind = raw[0] if raw else -1
    if kind == BOOTSTRAP and len(raw) == _BOOTSTRAP.size:
        _, *fields = _BOOTSTRAP.unpack(raw)
        return Bootstrap(*fields)
    if len(raw) < _PROVED.size or kind not in (CONTENT, DISCLOSURE) or (kind == DISCLOSURE and len(raw) > _PROVED.size):
        raise Rejected("source-malformed")
    _, interval, mac, disclosed = _PROVED.unpack_from(raw)
    return Timed(kind, interval, mac, disclosed, raw[_PROVED.size :])


_TIMED = struct.Struct(">BQ")


class MacKey:
    """What a source's packets of one epoch and one interval are authenticated with, by the chain's key of it."""

    __slots__ = ("_begin", "_key")

    def __init__(self, key: bytes, begin: bytes) -> None:
        """`begin` as `Setting.bind` gives it."""
        self._key = mac_key(key)
        self._begin = begin

    def mac(self, kind: int, interval: int, sequence: int, ports: Ports, payload: bytes) -> bytes:
        """16 bytes."""
        said = self._begin, counted(sequence, *ports), _TIMED.pack(kind, interval), payload
        return hmac.digest(self._key, b"".join(said), "sha256")[:MAC_SIZE]
