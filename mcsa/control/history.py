"""The newest messages of a stream, bounded in number and in bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mcsa.v1.conference_pb2 import Fragment

HISTORY_MESSAGES = 2_000
HISTORY_BYTES = 2 * 1024 * 1024  # of fragments, as they go over the network


class History:
    """Messages by their sequence, without holes: `oldest` to `last`; empty where `oldest` is above `last`."""

    def __init__(self) -> None:
        self.last = 0
        self._messages: deque[tuple[Fragment, ...]] = deque()
        self._bytes = 0

    @property
    def oldest(self) -> int:
        """Sequence of the oldest message that is still here."""
        return self.last - len(self._messages) + 1

    def append(self, message: Sequence[Fragment]) -> None:
        """Adds the message after `last`; the oldest go where there are too many. The newest always stays."""
        self.last += 1
        self._messages.append(tuple(message))
        self._bytes += size_of(message)
        while len(self._messages) > HISTORY_MESSAGES or (self._bytes > HISTORY_BYTES and len(self._messages) > 1):
            self._bytes -= size_of(self._messages.popleft())

    def skip_to(self, last: int) -> None:
        """Forgets all, and goes on after `last`."""
        self._messages.clear()
        self._bytes = 0
        self.last = last

    def find(self, sequence: int) -> tuple[Fragment, ...] | None:
        """The message's fragments, where it is still here."""
        if not self.oldest <= sequence <= self.last:
            return None
        return self._messages[sequence - self.oldest]


def size_of(message: Sequence[Fragment]) -> int:
    """Bytes of the message's datagrams."""
    return sum(fragment.ByteSize() for fragment in message)
