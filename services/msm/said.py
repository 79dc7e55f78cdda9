"""What a host says into a group whose policy authenticates sources: blocks, numbers, proofs, packets. Sans-I/O.

    say -> the mode's sender half -> block -> numbers of the association -> authenticate -> seal
    time (`wake_at`, `woken`) -> blocks that wait for no more packets, keys to be disclosed -> likewise

The proof covers the packet's own sequence number, so the association gives the numbers first (`seal_numbered`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mcsa.esp.inner import MAX_PAYLOAD
from mcsa.esp.outbound import SealedBatch
from mcsa.esp.relayed import ORIGIN_SIZE, Origin
from mcsa.source_authentication import Block, Content, Mode, Sender, Setting, SourceKey
from services.msm.sending import Sending


class Told(NamedTuple):
    """One content as it went out."""

    origin: Origin
    content: Content  # as the application said it
    authenticated: bytes  # as it was sealed
    is_notice: bool  # the mode's own, which no application said


@dataclass(frozen=True, slots=True)
class Batch:
    """Packets to send; hold until the next. What was said by them is put together only where somebody asks."""

    packets: SealedBatch
    first: Origin
    contents: Sequence[Content]
    authenticated: Sequence[bytes]
    is_notice: bool

    @property
    def told(self) -> list[Told]:
        """In the same order."""
        sender_id, epoch, first = self.first
        return [
            Told(Origin(sender_id, epoch, number), content, raw, self.is_notice)
            for number, (content, raw) in enumerate(zip(self.contents, self.authenticated, strict=True), first)
        ]


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

    def say(self, payloads: Sequence[bytes], source_port: int, destination_port: int, now: float) -> Iterator[Batch]:
        """What is to be sent now, of this or of what was said before; send each before asking for the next."""
        source = self._source
        cause = "source" if source is None else source.half.unready(now)
        if source is None or cause:
            self._count(f"unsent.{cause}", len(payloads))
            return
        fitting = [payload for payload in payloads if len(payload) <= self._longest]
        if len(fitting) < len(payloads):
            self._count("unsent.too-long", len(payloads) - len(fitting))
        contents = [Content(source_port, destination_port, payload) for payload in fitting]
        yield from self._seal(source, source.half.take(contents, now) if contents else [])

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        return None if self._source is None else self._source.half.wake_at()

    def woken(self, now: float) -> Iterator[Batch]:
        """What is to be sent because of the time, likewise."""
        if self._source is not None:
            yield from self._seal(self._source, self._source.half.woken(now))

    def _seal(self, source: _Source, blocks: Iterable[Block]) -> Iterator[Batch]:
        for block in blocks:
            yield from self._seal_block(source, block)

    def _seal_block(self, source: _Source, block: Block) -> Iterator[Batch]:
        contents, authenticated = block.contents, list[bytes]()

        def inside(origins: Sequence[Origin]) -> list[tuple[bytes, int, int]]:
            authenticated.extend(source.half.authenticate(block, origins))
            return [(raw, content[0], content[1]) for raw, content in zip(authenticated, contents)]

        start = 0
        for first, packets in self._sending.seal_numbered(len(contents), source.sender_id, inside):
            end = start + len(packets.view) // packets.segment_size
            yield Batch(packets, first, contents[start:end], authenticated[start:end], block.is_notice)
            start = end
