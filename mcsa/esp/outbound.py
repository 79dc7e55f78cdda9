"""Sealing: the outbound SA of one sender in one epoch (RFC 4303 section 3.3, RFC 4106)."""

from __future__ import annotations

import os
import struct
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import NoReturn

from mcsa.esp.derive import TrafficKey
from mcsa.esp.inner import frame_for, framed_size
from mcsa.esp.slab import ASSOCIATED_SIZE, HEADER_SIZE, Slab
from mcsa.esp.suite import ICV_SIZE, IV_SIZE

LAST_SEQUENCE = 2**32 - 1  # RFC 4303 section 3.3.3: the number must not wrap
_NEARLY_EXHAUSTED_AT = 2**31  # hours of the fastest sending are left: time enough for a rekey
MAX_DATAGRAM = 65_507  # bytes of UDP payload over IPv4: 65,535 without both headers
MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS of Linux before 6.9 (linux/udp.h); later ones take 128
_HEADER = struct.Struct(">IIQ")  # SPI, sequence number, IV


class SequenceExhausted(Exception):  # noqa: N818 - what is read at `raise SequenceExhausted`
    """This SA has no number left. A new epoch has to start; no packet was sealed."""


def packet_size(payload_size: int) -> int:
    """Bytes of the ESP packet, without IP and outer UDP, for a payload of so many bytes: 42 to 45 more."""
    return HEADER_SIZE + framed_size(payload_size) + ICV_SIZE


def batch_limit(payload_size: int) -> int:
    """How many packets with payloads of so many bytes one UDP_SEGMENT send takes; 1 where not even one fits."""
    return max(1, min(MAX_SEGMENTS, MAX_DATAGRAM // packet_size(payload_size)))


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """Packets one after another, all of `segment_size`, the last one perhaps shorter. Holds until the next batch."""

    view: memoryview
    segment_size: int


class OutboundAssociation:
    """Seals one sender's packets of one epoch. The first has sequence number 1.

    The IV is the sequence number, the key is this sender's and this epoch's alone, so a nonce repeats only where
    a number does. Hence numbers are given out under a lock; there is no way to set the counter, to copy or to
    restore an association; and in a forked child it is exhausted. Install one once, for the epoch it was derived for.
    """

    def __init__(self, key: TrafficKey) -> None:
        self.spi = key.spi
        self._cipher = key.cipher()
        self._salt = key.salt
        self._next = 1
        self._lock = threading.Lock()
        self._slab = Slab()
        _associations.add(self)

    @property
    def sealed(self) -> int:
        """How many sequence numbers were given out."""
        return self._next - 1

    @property
    def nearly_exhausted(self) -> bool:
        """True from number 2^31 on: time to ask for a new epoch."""
        return self._next >= _NEARLY_EXHAUSTED_AT

    def seal(self, payload: bytes, source_port: int, destination_port: int) -> bytes:
        """One packet: SPI, sequence number, IV, ciphertext, ICV. Raises `SequenceExhausted`."""
        before, after = frame_for(len(payload), source_port, destination_port)
        sequence = self._take_numbers(1)
        header = _HEADER.pack(self.spi, sequence, sequence)
        return header + self._cipher.encrypt(self._salt + header[8:], before + payload + after, header[:8])

    def seal_batches(self, payloads: Sequence[bytes], source_port: int, destination_port: int) -> Iterator[SealedBatch]:
        """The payloads in order, as few batches as their sizes allow; send each before asking for the next.

        A batch is what one UDP_SEGMENT send takes: packets of equal size, at most 64, at most 65,507 bytes. One
        thread at a time, since the batches share a buffer. Raises `SequenceExhausted`.
        """
        for size, equal in groupby(payloads, len):
            while batch := list(islice(equal, batch_limit(size))):
                yield self._seal_equal(batch, size, source_port, destination_port)

    def _seal_equal(self, payloads: list[bytes], size: int, source_port: int, destination_port: int) -> SealedBatch:
        """The hot way out: what can be done once for a batch, and in C, is not done in the loop.

        One format packs the headers of all packets at once, with gaps that the ciphertexts then fill; another walks
        over them and gives each IV. Views of the parts of each packet were made once, by the slab; the cipher writes
        into them. What is left in the loop is one nonce, one plaintext, one call.
        """
        count, segment_size = len(payloads), packet_size(size)
        before, after = frame_for(size, source_port, destination_port)
        associated, bodies = self._slab.layout(segment_size, count)
        packets = self._slab.view[: count * segment_size]
        gap = segment_size - HEADER_SIZE

        first = self._take_numbers(count)
        fields = [self.spi] * (3 * count)
        fields[1::3] = fields[2::3] = range(first, first + count)
        struct.pack_into(">" + f"IIQ{gap}x" * count, packets, 0, *fields)

        encrypt_into, salt, join = self._cipher.encrypt_into, self._salt, b"".join
        ivs = struct.iter_unpack(f"{ASSOCIATED_SIZE}x{IV_SIZE}s{gap}x", packets)
        for (iv,), header, body, payload in zip(ivs, associated, bodies, payloads):
            encrypt_into(salt + iv, join((before, payload, after)), header, body)
        return SealedBatch(packets, segment_size)

    def _take_numbers(self, count: int) -> int:
        """The first of so many sequence numbers that nobody else gets."""
        with self._lock:
            first = self._next
            if first + count - 1 > LAST_SEQUENCE:
                raise SequenceExhausted(f"{LAST_SEQUENCE - first + 1} numbers left, {count} needed")
            self._next = first + count
            return first

    def __reduce__(self) -> NoReturn:
        raise TypeError("an outbound association is not to be copied or stored: its numbers would repeat")


_associations: weakref.WeakSet[OutboundAssociation] = weakref.WeakSet()


def _exhaust_in_child() -> None:
    for association in _associations:
        association._lock = threading.Lock()  # whoever held it is not in the child
        association._next = LAST_SEQUENCE + 1


os.register_at_fork(after_in_child=_exhaust_in_child)
