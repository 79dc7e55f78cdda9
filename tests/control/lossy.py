"""Some participants on a network that loses, doubles and reorders, on a clock of their own."""

from __future__ import annotations

import heapq
import itertools
import random
import zlib
from collections import Counter

from mcsa.control.streams import ControlStreams, Delivered, Equivocated
from mcsa.errors import Rejected
from mcsa.v1.conference_pb2 import ControlMessage, Fragment, SealedMessage
from tests.control.parts import CONFERENCE
from tests.world import NOW, World, seeded


class Participant:
    """A process of a user, and what it was given."""

    def __init__(self, world: World, name: str, now: float, *, active: bool = True, seed: int = 0):
        self.name = name
        self.user = world.user(name)
        self.barred: set[str] = set()
        draw = seeded(zlib.crc32(f"{name} {seed}".encode()))
        self.streams = ControlStreams(
            CONFERENCE, self.user, draw(16), world.trust(), self._permits, draw, now, active=active
        )
        self.dead = False
        self.heard: list[Delivered] = []
        self.evidence: list[Equivocated] = []
        self.rejected: Counter[str] = Counter()

    def _permits(self, user: str) -> bool:
        return user not in self.barred

    def say(self, text: bytes, now: float) -> Delivered:
        return self.streams.send(sealed(text), now)

    def take(self, datagram: bytes, now: float) -> None:
        if self.dead:
            return
        try:
            found = self.streams.datagram_arrived(datagram, now)
        except Rejected as rejected:
            self.rejected[rejected.cause] += 1
            return
        self.heard += [item for item in found if isinstance(item, Delivered)]
        self.evidence += [item for item in found if isinstance(item, Equivocated)]

    def heard_from(self, other: Participant) -> list[bytes]:
        """What `other` said, as it arrived here."""
        process_id = other.streams.process_id
        return [item.message.sealed.sframe for item in self.heard if item.process_id == process_id][1:]


class Network:
    """One multicast group; each receiver loses, doubles and delays on its own."""

    def __init__(self, seed: int, loss: float = 0.0, duplication: float = 0.0, delay: float = 0.03):
        self.now = NOW
        self.loss, self.duplication, self.delay = loss, duplication, delay
        self.participants: list[Participant] = []
        self.sent: Counter[str | tuple[str, str]] = Counter()
        self.sent_bytes = 0
        self.datagrams: list[bytes] = []
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Participant, bytes]] = []
        self._numbers = itertools.count()

    def add(self, participant: Participant) -> Participant:
        self.participants.append(participant)
        return participant

    def flush(self) -> None:
        """What the participants have to send gets under way."""
        for source in self.participants:
            for datagram in source.streams.outgoing():
                if source.dead:
                    continue
                kind = "message" if Fragment.FromString(datagram).sequence else "status"
                self.sent[kind, source.name] += 1
                self.sent[kind] += 1
                self.sent_bytes += len(datagram)
                self.datagrams.append(datagram)
                for receiver in self.participants:
                    if receiver is not source:
                        self._carry(receiver, datagram)

    def _carry(self, receiver: Participant, datagram: bytes) -> None:
        for _ in range(2 if self._random.random() < self.duplication else 1):
            if self._random.random() >= self.loss:
                at = self.now + self._random.uniform(0.001, self.delay)
                heapq.heappush(self._events, (at, next(self._numbers), receiver, datagram))

    def run(self, seconds: float) -> None:
        """So much time passes."""
        until = self.now + seconds
        self.flush()
        while (at := self._next()) <= until:
            self.now = max(self.now, at)
            while self._events and self._events[0][0] <= self.now:
                _, _, receiver, datagram = heapq.heappop(self._events)
                receiver.take(datagram, self.now)
            for participant in self.participants:
                wake_at = participant.streams.wake_at()
                if not participant.dead and wake_at is not None and wake_at <= self.now:
                    participant.streams.due(self.now)
                    again = participant.streams.wake_at()
                    assert again is None or again > self.now
            self.flush()
        self.now = until

    def _next(self) -> float:
        times = [event[0] for event in self._events[:1]]
        for participant in self.participants:
            wake_at = participant.streams.wake_at()
            if wake_at is not None and not participant.dead:
                times.append(wake_at)
        return min(times, default=float("inf"))


def sealed(text: bytes) -> ControlMessage:
    """A message that carries these bytes."""
    return ControlMessage(sealed=SealedMessage(sframe=text))
