"""SFrame (RFC 9605), cipher suite AES_256_GCM_SHA512_128: what applications seal under the conference key.

    header | ciphertext | tag (16 bytes)        header: 1 to 17 bytes, key id and counter (RFC 9605, section 4.3)

Each application process has a base key of its own, derived from the conference key, its user and 128 random bits that
were announced signed, so that a process that starts again can't repeat a nonce (`base_key`).
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mcsa.errors import Rejected
from mcsa.keys import ConferenceKey, Secret

SUITE = 0x0005  # AES_256_GCM_SHA512_128, RFC 9605 section 8.1
_KEY_SIZE, _SALT_SIZE, _TAG_SIZE = 32, 12, 16
APPLICATION_ID_SIZE = 16
BASE_KEY_LABEL = "mcsa sframe base key v1"
MAX_COUNTER = 2**64 - 1


class BaseKey(Secret):
    """The SFrame base key of one application process in one key epoch."""


def base_key(key: ConferenceKey, user: str, application_id: bytes, key_epoch: int) -> BaseKey:
    """KDF(conference key; user, random process id, key epoch)."""
    return BaseKey.derive(key, BASE_KEY_LABEL, user, application_id, key_epoch)


@dataclass(frozen=True, slots=True)
class Header:
    """Who sealed, and which of its messages it is."""

    key_id: int
    counter: int

    def encode(self) -> bytes:
        """`X|K K K|Y|C C C`, then key id and counter where they don't fit into three bits (section 4.3)."""
        first, tail = 0, b""
        for value, shift in ((self.key_id, 4), (self.counter, 0)):
            if value < 8:
                first |= value << shift
            else:
                size = (value.bit_length() + 7) // 8
                first |= (8 | (size - 1)) << shift
                tail += value.to_bytes(size, "big")
        return bytes([first]) + tail


def parse_header(raw: bytes) -> tuple[Header, int]:
    """The header at the start of `raw`, and its length; `Rejected("sframe")` where there is none."""
    if not raw:
        raise Rejected("sframe", "empty")
    at, values = 1, []
    for nibble in (raw[0] >> 4, raw[0] & 15):
        if not nibble & 8:
            values.append(nibble)
            continue
        size = (nibble & 7) + 1
        if at + size > len(raw):
            raise Rejected("sframe", "header")
        values.append(int.from_bytes(raw[at : at + size], "big"))
        at += size
    return Header(values[0], values[1]), at


class FrameKey:
    """A base key made ready: seals and opens. Nonces come from the counter, which its owner never repeats."""

    def __init__(self, base: Secret | bytes, key_id: int) -> None:
        raw = base if isinstance(base, bytes) else base.reveal()
        self.key_id = key_id
        suffix = key_id.to_bytes(8, "big") + SUITE.to_bytes(2, "big")
        self._aead = AESGCM(_expand(raw, b"SFrame 1.0 Secret key " + suffix, _KEY_SIZE))
        self._salt = _expand(raw, b"SFrame 1.0 Secret salt " + suffix, _SALT_SIZE)

    def seal(self, counter: int, plaintext: bytes, metadata: bytes = b"") -> bytes:
        """One frame; each counter once (section 4.4.3)."""
        header = Header(self.key_id, counter).encode()
        return header + self._aead.encrypt(self._nonce(counter), plaintext, header + metadata)

    def open(self, frame: bytes, metadata: bytes = b"") -> tuple[int, bytes]:
        """Counter and plaintext; `Rejected("sframe")` where it isn't this key's, or was changed."""
        header, size = parse_header(frame)
        if header.key_id != self.key_id or len(frame) < size + _TAG_SIZE:
            raise Rejected("sframe", "of another key")
        try:
            plaintext = self._aead.decrypt(self._nonce(header.counter), frame[size:], frame[:size] + metadata)
        except InvalidTag:
            raise Rejected("sframe", "integrity") from None
        return header.counter, plaintext

    def _nonce(self, counter: int) -> bytes:
        return (int.from_bytes(self._salt, "big") ^ counter).to_bytes(_SALT_SIZE, "big")

    def __repr__(self) -> str:
        return f"<FrameKey {self.key_id:016x}>"


class FrameSealer:
    """A process's own sealing in one key epoch: counts for itself, and can't be set back."""

    def __init__(self, base: BaseKey, key_id: int) -> None:
        self._key = FrameKey(base, key_id)
        self._next = 0

    def seal(self, plaintext: bytes, metadata: bytes = b"") -> bytes:
        """One frame."""
        counter, self._next = self._next, self._next + 1
        if counter > MAX_COUNTER:
            raise OverflowError("this process has sealed 2^64 messages under one key")
        return self._key.seal(counter, plaintext, metadata)


def _expand(base: bytes, info: bytes, size: int) -> bytes:
    # HKDF with an empty salt: Extract("", base_key), then Expand (section 4.4.2)
    return HKDF(algorithm=SHA512(), length=size, salt=None, info=info).derive(base)
