"""One unambiguous way to turn several values into bytes that are signed, hashed or used to derive keys."""

from __future__ import annotations

import hashlib

Part = bytes | str | int


def encode_parts(*parts: Part) -> bytes:
    """The parts, each with a 4-byte big-endian length before it.

    Text is UTF-8; an integer is 8 bytes, big-endian, unsigned. No two different lists of parts of the same
    types give the same bytes, which is what lets a signature over them mean one thing only.
    """
    out: list[bytes] = []
    for part in parts:
        raw = _encode(part)
        out += (len(raw).to_bytes(4, "big"), raw)
    return b"".join(out)


def _encode(part: Part) -> bytes:
    if isinstance(part, int):
        return part.to_bytes(8, "big")
    return part.encode() if isinstance(part, str) else part


def digest(*parts: Part) -> bytes:
    """SHA-256 over `encode_parts`, 32 bytes. The first part is a label that says what is hashed."""
    return hashlib.sha256(encode_parts(*parts)).digest()
