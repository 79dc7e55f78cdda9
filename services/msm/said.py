"""What a host says into a group whose policy authenticates sources: blocks, numbers, proofs, packets. Sans-I/O.

    say -> the mode's sender half -> block -> numbers of the association -> authenticate -> seal
    time (`wake_at`, `woken`) -> blocks that wait for no more packets, keys to be disclosed -> likewise

The proof covers the packet's own sequence number, so the association gives the numbers first (`seal_numbered`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from mcsa.esp.inner import MAX_PAYLOAD
from mcsa.esp.outbound import MAX_DATAGRAM, MAX_SEGMENTS, SealedBatch
from mcsa.esp.relayed import ORIGIN_SIZE, Origin
from mcsa.source_authentication import Block, Content, Mode, Sender, Setting, SourceKey
from services.msm.sending import Numbered, Sending


class Told(NamedTuple):
    """One content as it went out."""

    origin: Origin
    content: Content  # as the application said it
    authenticated: bytes  # as it was sealed
    is_notice: bool  # the mode's own, which no application said


class Batch(NamedTuple):
    """Packets to send, and what was said by them."""

    packets: SealedBatch
    told: list[Told]


class _Source(NamedTuple):
    sender_id: int
    half: Sender


class Said:
    """See the module. Counts `unsent` by cause: `clock`, `too-long`, `source` (its key isn't there, or no longer).

    One thread's, but for `set_source`, which replaces what it changes whole: what waits in a block then is lost.
    """

    def __init__(self, mode: Mode, setting: Setting, sending: Sending, count: Callable[[str, int], None]) -> None:
        self._mode = mode
        self._setting = setting
        self._sending = sending
        self._count = count
        self._source: _Source | None = None
        self._longest = MAX_PAYLOAD - ORIGIN_SIZE - mode.overhead(setting.policy)

    def set_source(self, sender_id: int, key: SourceKey) -> None:
        """From now on this is who speaks."""
        self._source = _Source(sender_id, self._mode.sender(self._setting, key))

    def say(self, payloads: Sequence[bytes], source_port: int, destination_port: int, now: float) -> list[Batch]:
        """What is to be sent now, of this or of what was said before."""
        source = self._source
        cause = "source" if source is None else source.half.unready(now)
        if source is None or cause:
            self._count(f"unsent.{cause}", len(payloads))
            return []
        fitting = [payload for payload in payloads if len(payload) <= self._longest]
        if len(fitting) < len(payloads):
            self._count("unsent.too-long", len(payloads) - len(fitting))
        contents = [Content(source_port, destination_port, payload) for payload in fitting]
        return self._seal(source, source.half.take(contents, now) if contents else [])

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        return None if self._source is None else self._source.half.wake_at()

    def woken(self, now: float) -> list[Batch]:
        """What is to be sent because of the time."""
        source = self._source
        return [] if source is None else self._seal(source, source.half.woken(now))

    def _seal(self, source: _Source, blocks: Iterable[Block]) -> list[Batch]:
        return [batch for block in blocks for batch in self._seal_block(source, block)]

    def _seal_block(self, source: _Source, block: Block) -> list[Batch]:
        contents, authenticated = block.contents, list[bytes]()

        def inside(origins: Sequence[Origin]) -> list[tuple[bytes, int, int]]:
            authenticated.extend(source.half.authenticate(block, origins))
            return [
                (raw, content.source_port, content.destination_port) for raw, content in zip(authenticated, contents)
            ]

        packets = self._sending.seal_numbered(len(contents), source.sender_id, inside)
        told = [
            Told(Origin(packet.sender_id, packet.epoch, packet.sequence), content, raw, block.is_notice)
            for packet, content, raw in zip(packets, contents, authenticated)
        ]
        return list(_batches(packets, told))


def _batches(packets: Sequence[Numbered], told: Sequence[Told]) -> Iterable[Batch]:
    """As few as their sizes allow."""
    start = 0
    for size, equal in groupby(packets, _size):
        alike = [packet.packet for packet in equal]
        limit = max(1, min(MAX_SEGMENTS, MAX_DATAGRAM // size))
        for at in range(0, len(alike), limit):
            some = alike[at : at + limit]
            yield Batch(SealedBatch(memoryview(b"".join(some)), size), list(told[start : start + len(some)]))
            start += len(some)


def _size(packet: Numbered) -> int:
    return len(packet.packet)
