"""Sealing: the outbound SA of one sender in one epoch (RFC 4303 section 3.3, RFC 4106)."""

from __future__ import annotations

import os
import struct
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import count, groupby, islice
from typing import NamedTuple, NoReturn

from mcsa.equal_sizes import of_one_size
from mcsa.esp.checksum import InnerChecksum
from mcsa.esp.derive import TrafficKey
from mcsa.esp.inner import (
    ALIGNMENT,
    TRAILER_SIZE,
    UDP_CHECKSUM_AT,
    UDP_HEADER_SIZE,
    frame_for,
    framed_size,
)
from mcsa.esp.slab import HEADER_SIZE, Slab
from mcsa.esp.suite import ICV_SIZE

LAST_SEQUENCE = 2**32 - 1  # RFC 4303 section 3.3.3: the number must not wrap
_NEARLY_EXHAUSTED_AT = 2**31  # hours of the fastest sending are left: time enough for a rekey
MAX_DATAGRAM = 65_507  # bytes of UDP payload over IPv4: 65,535 without both headers
MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS of Linux before 6.9 (linux/udp.h); later ones take 128
_HEADER = struct.Struct(">IIQ")  # SPI, sequence number, IV
_exhaust = deque[int](maxlen=0).extend  # calls what `map` is to call, and keeps nothing


class SequenceExhausted(Exception):  # noqa: N818 - what is read at `raise SequenceExhausted`
    """This SA has no number left. A new epoch has to start; no packet was sealed."""


@lru_cache(maxsize=1024)
def packet_size(payload_size: int) -> int:
    """Bytes of the ESP packet, without IP and outer UDP, for a payload of so many bytes: 42 to 45 more."""
    return HEADER_SIZE + framed_size(payload_size) + ICV_SIZE


def largest_payload(mtu: int, ip_header_size: int) -> int:
    """Bytes of payload that a packet over a link with this MTU carries unfragmented, encapsulated in UDP."""
    framed = mtu - ip_header_size - UDP_HEADER_SIZE - HEADER_SIZE - ICV_SIZE
    return framed - framed % ALIGNMENT - UDP_HEADER_SIZE - TRAILER_SIZE


@lru_cache(maxsize=1024)
def batch_limit(payload_size: int) -> int:
    """How many packets with payloads of so many bytes one UDP_SEGMENT send takes; 1 where not even one fits."""
    return max(1, min(MAX_SEGMENTS, MAX_DATAGRAM // packet_size(payload_size)))


class SealedBatch(NamedTuple):
    """Packets one after another, all of `segment_size`, the last one perhaps shorter. Holds until the next batch."""

    view: memoryview
    segment_size: int


class OutboundAssociation:
    """Seals one sender's packets of one epoch. The first has sequence number 1.

    The IV is the sequence number, the key is this sender's and this epoch's alone, so a nonce repeats only where
    a number does. Hence each number is taken once, by whatever thread; there is no way to set the counter, to copy or
    to restore an association; and in a forked child it is exhausted. Install one once, for its epoch.
    """

    def __init__(self, key: TrafficKey, checksum: InnerChecksum | None = None) -> None:
        """`checksum` for packets over IPv6, where the inner UDP header has to have one."""
        self.spi = key.spi
        self._checksum = checksum
        cipher = key.cipher()
        self._encrypt, self._encrypt_into = cipher.encrypt, cipher.encrypt_into
        self._salt = key.salt
        self._numbers = count(1)
        self._last = 0
        _associations.add(self)

    @cached_property
    def _slab(self) -> Slab:
        """Made for who seals batches; who seals one by one needs none of its 150 KB."""
        return Slab()

    @property
    def sealed(self) -> int:
        """How many sequence numbers were given out."""
        return self._last

    @property
    def nearly_exhausted(self) -> bool:
        """True from number 2^31 on: time to ask for a new epoch."""
        return self._last >= _NEARLY_EXHAUSTED_AT

    def seal(self, payload: bytes, source_port: int, destination_port: int) -> bytes:
        """One packet: SPI, sequence number, IV, ciphertext, ICV. Raises `SequenceExhausted`."""
        before, after = frame_for(len(payload), source_port, destination_port)
        sequence = next(self._numbers)  # nobody else gets it: see `_take_numbers`
        if sequence > LAST_SEQUENCE:
            raise SequenceExhausted("no number left")
        self._last = sequence
        header = _HEADER.pack(self.spi, sequence, sequence)
        if self._checksum is not None:
            before = before[:UDP_CHECKSUM_AT] + self._checksum.of(before, payload)
        plaintext = b"".join((before, payload, after))
        return header + self._encrypt(self._salt + header[8:], plaintext, header[:8])

    def seal_batches(self, payloads: Sequence[bytes], source_port: int, destination_port: int) -> Iterator[SealedBatch]:
        """The payloads in order, as few batches as their sizes allow; send each before asking for the next.

        A batch is what one UDP_SEGMENT send takes: packets of equal size, at most 64, at most 65,507 bytes. One
        thread at a time, since the batches share a buffer. Raises `SequenceExhausted`.
        """
        for size, equal in of_one_size(payloads, batch_limit):
            yield self._seal_equal(equal, size, source_port, destination_port)

    def seal_numbered(
        self, amount: int, inside: Callable[[Sequence[int]], Sequence[tuple[bytes, int, int]]]
    ) -> Iterator[tuple[int, SealedBatch]]:
        """So many packets whose insides depend on their numbers: `inside` is told the sequence numbers, and gives for
        each payload, source and destination port. Batches as of `seal_batches`, each after its first number. Raises
        what it raises, and `SequenceExhausted`; either way the numbers are gone."""
        numbers = self._take_numbers(amount)
        contents, start = inside(numbers), 0
        if len(contents) != amount:
            raise ValueError(f"{len(contents)} payloads for {amount} numbers")
        for (size, source_port, destination_port), alike in groupby(contents, _shape):
            payloads = [payload for payload, _, _ in alike]
            limit = batch_limit(size)
            for at in range(0, len(payloads), limit):
                some = payloads[at : at + limit]
                mine = numbers[start : start + len(some)]
                yield mine[0], self._seal_equal(some, size, source_port, destination_port, mine)
                start += len(some)

    def _seal_equal(
        self,
        payloads: Sequence[bytes],
        size: int,
        source_port: int,
        destination_port: int,
        numbers: array[int] | None = None,
    ) -> SealedBatch:
        """The hot way out: nothing is done packet by packet but in C.

        One join lays all plaintexts out, with the trailer of each and the header of the next between two payloads; a
        field of all headers is written at once; `map` calls the cipher with views that the slab made once.
        """
        amount, segment_size = len(payloads), packet_size(size)
        if amount == 1 and numbers is None:  # sizes of single packets are many: no views of them are kept
            return SealedBatch(memoryview(self.seal(payloads[0], source_port, destination_port)), segment_size)
        before, after = frame_for(size, source_port, destination_port)
        slab, layout = self._slab, self._slab.layout(segment_size, amount)
        slab.write_headers(layout, self.spi, numbers or self._take_numbers(amount), self._salt)
        end = amount * layout.plaintext_size - len(after)
        slab.plaintext[:UDP_HEADER_SIZE] = before
        slab.plaintext[UDP_HEADER_SIZE:end] = (after + before).join(payloads)
        slab.plaintext[end : end + len(after)] = after
        if self._checksum is not None:
            layout.checksums[:amount] = self._checksum.of_all(before, payloads)
        nonces = islice(slab.nonces, amount)  # the first argument ends the map
        _exhaust(map(self._encrypt_into, nonces, layout.plaintexts, layout.associated, layout.bodies))
        return SealedBatch(slab.view[: amount * segment_size], segment_size)

    def _take_numbers(self, amount: int) -> array[int]:
        """So many sequence numbers that nobody else gets: `itertools.count` gives each once, whatever threads ask."""
        try:
            numbers = array("I", islice(self._numbers, amount))
        except OverflowError:
            numbers = array("I")
        if len(numbers) < amount:
            raise SequenceExhausted(f"no {amount} numbers left of {LAST_SEQUENCE}")
        self._last = numbers[-1]
        return numbers

    def __reduce__(self) -> NoReturn:
        raise TypeError("an outbound association is not to be copied or stored: its numbers would repeat")


def _shape(content: tuple[bytes, int, int]) -> tuple[int, int, int]:
    return len(content[0]), content[1], content[2]


_associations: weakref.WeakSet[OutboundAssociation] = weakref.WeakSet()


def _exhaust_in_child() -> None:
    for association in _associations:
        association._numbers = count(LAST_SEQUENCE + 1)


os.register_at_fork(after_in_child=_exhaust_in_child)
