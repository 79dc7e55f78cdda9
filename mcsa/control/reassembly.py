"""What the datagrams of one stream become: whole messages, in order, each once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from mcsa.control.fragments import MESSAGE_MAX, join
from mcsa.control.history import History
from mcsa.errors import Rejected
from mcsa.v1.conference_pb2 import ControlMessage, Fragment

WINDOW = 256  # messages beyond the next one that are kept out of order
PENDING_BYTES = 256 * 1024  # of fragments kept for messages that can't be delivered yet


@dataclass(frozen=True, slots=True)
class Whole:
    """A message whose fragments are all there."""

    sequence: int
    message: ControlMessage
    raw: bytes
    fragments: tuple[Fragment, ...]


class Reassembly:
    """One stream as it arrives. All fragments handed to `take` are authentic; bounds hold against their signer too."""

    def __init__(self) -> None:
        self._delivered = History()
        self._partial: dict[int, dict[int, Fragment]] = {}
        self._whole: dict[int, Whole] = {}
        self._pending_bytes = 0
        self._ended_at: int | None = None

    @property
    def complete(self) -> int:
        """All messages up to here were delivered, or skipped."""
        return self._delivered.last

    def known(self, fragment: Fragment) -> Fragment | None:
        """What is kept at this fragment's place."""
        delivered = self._delivered.find(fragment.sequence)
        if delivered is not None:
            return delivered[fragment.index] if fragment.index < len(delivered) else None
        return self._partial.get(fragment.sequence, {}).get(fragment.index)

    def out_of_reach(self, fragment: Fragment) -> bool:
        """Whether this is too old to be compared with anything, or too new to be kept."""
        return fragment.sequence < self._delivered.oldest or fragment.sequence > self.complete + WINDOW

    def take(self, fragment: Fragment) -> None:
        """Keeps a fragment of a place at which nothing is yet.

        Raises `Rejected`: "count" (another one than the rest of its message), "oversize" (of the message), "message"
        (complete, but no message that can stand there: the stream ends before it).
        """
        sequence = fragment.sequence
        if self._ended_at is not None and sequence >= self._ended_at:
            raise Rejected("message", f"the stream ended before {self._ended_at}")
        partial = self._partial.get(sequence, {})
        if sequence <= self.complete or any(other.count != fragment.count for other in partial.values()):
            raise Rejected("count", f"changed to {fragment.count} in mid-message")
        if sum(len(other.body) for other in partial.values()) + len(fragment.body) > MESSAGE_MAX:
            raise Rejected("oversize", "message")
        if not self._make_room(sequence, fragment.ByteSize()):
            return
        self._partial.setdefault(sequence, {})[fragment.index] = fragment
        if len(self._partial[sequence]) == fragment.count:
            self._whole[sequence] = self._open(sequence)

    def ready(self) -> Iterator[Whole]:
        """The messages whose turn it is."""
        while (whole := self._whole.get(self.complete + 1)) is not None:
            self._drop(whole.sequence)
            self._delivered.append(whole.fragments)
            yield whole

    def skip_to(self, oldest: int) -> None:
        """The sender can't repeat what is before `oldest`: goes on there, where that is ahead."""
        if oldest <= self.complete + 1:
            return
        for sequence in [sequence for sequence in self._partial if sequence < oldest]:
            self._drop(sequence)
        self._delivered.skip_to(oldest - 1)

    def _open(self, sequence: int) -> Whole:
        partial = self._partial[sequence]
        fragments = tuple(partial[index] for index in sorted(partial))
        raw = join(fragments)
        try:
            message = _parse(raw, sequence)
        except Rejected:
            self._ended_at = sequence
            self._drop(sequence)
            raise
        return Whole(sequence, message, raw, fragments)

    def _make_room(self, sequence: int, size: int) -> bool:
        """Later messages give way to earlier ones, so that a full window can't stop the stream."""
        while self._pending_bytes + size > PENDING_BYTES:
            latest = max(self._partial)
            if latest <= sequence:
                return False
            self._drop(latest)
        self._pending_bytes += size
        return True

    def _drop(self, sequence: int) -> None:
        self._whole.pop(sequence, None)
        for fragment in self._partial.pop(sequence, {}).values():
            self._pending_bytes -= fragment.ByteSize()


def _parse(raw: bytes, sequence: int) -> ControlMessage:
    """A body that we don't know passes, since a newer version may have sent it: it is for whoever it concerns."""
    try:
        message = ControlMessage.FromString(raw)
    except DecodeError:
        raise Rejected("message", "no protobuf") from None
    body = message.WhichOneof("body")
    if body == "status" or (body == "introduction") != (sequence == 1):
        raise Rejected("message", f"{body} at {sequence}")
    return message
