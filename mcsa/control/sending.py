"""The own stream: what was sent, who has how much of it, and what is repeated when.

Nothing is repeated because somebody asks: each peer's position is known from its Status, and what a living peer lacks
is repeated until its position rises, ever more seldom where it doesn't. So a Status that is replayed, or that lies,
costs no more than a peer that is slow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mcsa.control.fragments import sign_message
from mcsa.control.history import History, size_of
from mcsa.control.reassembly import WINDOW
from mcsa.identity import Credentials
from mcsa.v1.conference_pb2 import Fragment

LIVE_FOR = 20.0  # seconds since a peer was heard for which it counts: four Status of an idle one
REPEAT_AFTER = 0.2  # seconds: the latest Status that answers (0.15), and the way there and back
PATIENCE_MAX = 5  # doublings of it for a peer that makes no progress: every 6.4 seconds in the end
REPEAT_RATE = 250_000  # bytes per second: 2 Mbit/s
REPEAT_BURST_FOR = 0.1  # seconds of that rate that may go out at once


@dataclass(slots=True)
class Listener:
    """A peer's stream as one that hears ours."""

    heard_at: float
    has: int = 0  # all our messages up to here
    repeat_at: float = 0.0
    patience: int = 0  # repeats since it made progress, up to `PATIENCE_MAX`

    def hear(self, now: float) -> None:
        """It lives; whoever was away gets its repeats as soon as anybody new."""
        if now - self.heard_at > LIVE_FOR:
            self.patience, self.repeat_at = 0, now
        self.heard_at = now

    def tell(self, has: int, now: float) -> None:
        """It told that it has this much; what it told before stays true."""
        if has > self.has:
            self.has, self.patience, self.repeat_at = has, 0, now

    def lives(self, now: float) -> bool:
        """Whether it was heard of late."""
        return now <= self.heard_at + LIVE_FOR


class OwnStream:
    """What we sent, and the pace at which it is repeated."""

    def __init__(self, user: Credentials, conference_id: bytes, process_id: bytes) -> None:
        self._user = user
        self._conference_id = conference_id
        self._process_id = process_id
        self._history = History()
        self._sent_at: dict[int, float] = {}
        self.repeat_after = REPEAT_AFTER
        self._free_at = 0.0  # when the next repeat is within the rate

    @property
    def last(self) -> int:
        """Sequence of the newest message; 0 where there is none."""
        return self._history.last

    @property
    def oldest(self) -> int:
        """Sequence of the oldest message that can be repeated; `last` + 1 where there is none."""
        return self._history.oldest

    def append(self, raw: bytes, now: float) -> tuple[Fragment, ...]:
        """The signed fragments of the next message."""
        fragments = sign_message(self._user, self._conference_id, self._process_id, self.last + 1, raw)
        self._history.append(fragments)
        self._sent_at[self.last] = now
        while (forgotten := next(iter(self._sent_at))) < self.oldest:
            del self._sent_at[forgotten]
        return fragments

    def repeat_at(self, listeners: Iterable[Listener]) -> float | None:
        """When something has to be repeated next."""
        times = (self._repeat_at(listener) for listener in listeners)
        return min((at for at in times if at is not None), default=None)

    def repeats(self, listeners: Iterable[Listener], now: float) -> list[Fragment]:
        """What is to be repeated now."""
        out: list[Fragment] = []
        for listener in listeners:
            at = self._repeat_at(listener)
            if at is not None and at <= now:
                out += self._repeat_for(listener, now)
        return out

    def _repeat_at(self, listener: Listener) -> float | None:
        first = self._first_lacking(listener)
        if first > self.last:
            return None
        at = max(listener.repeat_at, self._sent_at[first] + self.repeat_after, self._free_at)
        return at if listener.lives(at) else None

    def _first_lacking(self, listener: Listener) -> int:
        return max(listener.has + 1, self.oldest)

    def _repeat_for(self, listener: Listener, now: float) -> list[Fragment]:
        out: list[Fragment] = []
        first = self._first_lacking(listener)
        for sequence in range(first, min(self.last, first + WINDOW - 1) + 1):
            if self._free_at > now:
                break
            message = self._history.find(sequence)
            if message is None or self._sent_at[sequence] + self.repeat_after > now:
                continue
            out += message
            self._sent_at[sequence] = now
            self._free_at = max(self._free_at, now - REPEAT_BURST_FOR) + size_of(message) / REPEAT_RATE
        listener.repeat_at = now + self.repeat_after * 2**listener.patience
        listener.patience = min(listener.patience + 1, PATIENCE_MAX)
        return out
