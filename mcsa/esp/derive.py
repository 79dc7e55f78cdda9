"""From the group key of an epoch to the key of one sender's packets (design, section 7)."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from mcsa.encoding import encode_parts
from mcsa.esp.spi import spi_for
from mcsa.esp.suite import Cipher, Suite
from mcsa.keys import GroupKey, Secret

LABEL = "mcsa esp v1"
GROUP_ID_SIZE = 16


class TrafficKey(Secret):
    """The KEYMAT of one sender in one epoch: a cipher key and a 4-byte salt, with the suite and the SPI they are for.

    This is all that a send-only host needs, and it opens no other sender's packets (paper, section 2.3.1).
    """

    __slots__ = ("spi", "suite")

    def __init__(self, raw: bytes, suite: Suite, spi: int) -> None:
        if len(raw) != suite.keymat_size:
            raise ValueError(f"a TrafficKey of {suite.name} is {suite.keymat_size} bytes, not {len(raw)}")
        self._raw = bytes(raw)
        self.suite = suite
        self.spi = spi

    @property
    def salt(self) -> bytes:
        """4 bytes, the first of every nonce (RFC 4106 section 4)."""
        return self._raw[self.suite.key_size :]

    def cipher(self) -> Cipher:
        """A cipher with this key. Making one costs more than sealing a small packet: make it once."""
        return self.suite.construct(self._raw[: self.suite.key_size])


def derive_traffic_key(
    group_key: GroupKey, domain: str, group_id: bytes, epoch: int, suite: Suite, sender_id: int
) -> TrafficKey:
    """KEYMAT = HKDF-Expand(group key, info), RFC 5869 with SHA-256.

    `info` is label, domain, group (16 bytes), epoch, suite and SPI, each with its length, so that no two senders,
    epochs, groups, domains or suites ever share a key.
    """
    if len(group_id) != GROUP_ID_SIZE:
        raise ValueError(f"a group ID is {GROUP_ID_SIZE} bytes, not {len(group_id)}")
    spi = spi_for(epoch, sender_id)
    info = encode_parts(LABEL, domain, group_id, epoch, suite.name, spi)
    expand = HKDFExpand(algorithm=SHA256(), length=suite.keymat_size, info=info)
    return TrafficKey(expand.derive(group_key.reveal()), suite, spi)
