"""The streams of the others: which are known, whose they are, and no more of them than there may be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mcsa.control.reassembly import Reassembly
from mcsa.control.sending import Listener
from mcsa.errors import Rejected
from mcsa.identity import Identity

STREAMS_MAX = 8  # of one user: processes on some hosts, and those that these replaced
DROPPED_MAX = 1_000  # process ids of one user that don't come back


@dataclass(slots=True)
class PeerStream:
    """One process of another participant (or another process of our own user)."""

    process_id: bytes
    identity: Identity
    listener: Listener
    incoming: Reassembly = field(default_factory=Reassembly)
    begun: bool = False  # whether anything was delivered
    equivocated: bool = False
    told: int = 0  # number of its newest Status
    told_parts: set[int] = field(default_factory=set)  # and which parts of that have come

    def take_status(self, number: int, part: int) -> None:
        """Each part of each Status counts once: `Rejected("old-status")` where it was overtaken, or is played again."""
        if number < self.told or (number == self.told and part in self.told_parts):
            raise Rejected("old-status")
        if number > self.told:
            self.told, self.told_parts = number, set()
        self.told_parts.add(part)

    @property
    def user(self) -> str:
        """SPIFFE ID of who proved that the stream is its own."""
        return str(self.identity.id)


class Peers:
    """Streams by process id. What was dropped doesn't come back: it would be delivered a second time."""

    def __init__(self) -> None:
        self._streams: dict[bytes, PeerStream] = {}
        self._dropped: dict[str, dict[bytes, None]] = {}

    def __iter__(self) -> Iterator[PeerStream]:
        return iter(self._streams.values())

    def __len__(self) -> int:
        return len(self._streams)

    def find(self, process_id: bytes, user: str) -> PeerStream | None:
        """The stream, where it is known.

        Raises `Rejected`: "foreign-stream" (it is another user's), "dropped-stream".
        """
        if process_id in self._dropped.get(user, ()):
            raise Rejected("dropped-stream")
        stream = self._streams.get(process_id)
        if stream is not None and stream.user != user:
            raise Rejected("foreign-stream")
        return stream

    def add(self, process_id: bytes, identity: Identity, listener: Listener) -> PeerStream:
        """A stream that its user proved; the least recently heard of the same user goes where there are too many."""
        stream = PeerStream(process_id, identity, listener)
        same = [other for other in self if other.user == stream.user]
        if len(same) >= STREAMS_MAX:
            self._drop(min(same, key=lambda other: other.listener.heard_at))
        self._streams[process_id] = stream
        return stream

    def forget(self, user: str) -> None:
        """Drops all streams of a user."""
        for stream in [stream for stream in self if stream.user == user]:
            self._drop(stream)

    def _drop(self, stream: PeerStream) -> None:
        del self._streams[stream.process_id]
        dropped = self._dropped.setdefault(stream.user, {})
        dropped[stream.process_id] = None
        if len(dropped) > DROPPED_MAX:
            del dropped[next(iter(dropped))]
