"""A network and a clock that exist only in memory: the same seed gives the same events, sizes and times.

Two ways from host to host, as in reality: the bus (ordered and lossless while it is up; it can be down) and multicast
(each receiver loses, doubles and delays packets on its own).
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

START = 1_800_000_000.0  # 2027-01-15


@dataclass
class Weather:
    """What the multicast network does to packets."""

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.001
    jitter: float = 0.002


@dataclass(frozen=True)
class Frame:
    """One thing that was carried, for whoever taps the line."""

    at: float
    way: str
    source: str
    destination: str
    raw: bytes


class Network:
    """Clock, events, both ways."""

    def __init__(self, seed: int, weather: Weather | None = None) -> None:
        self.random = random.Random(seed)
        self.weather = weather or Weather()
        self.now = START
        self.bus_up = True
        self.frames: list[Frame] = []
        self.counters: Counter[str] = Counter()
        self._events: list[tuple[float, int, Callable[[], None]]] = []  # when, and which of these first
        self._numbers = itertools.count()
        self._members: dict[str, dict[str, Callable[[bytes, str], None]]] = {}
        self.drops: list[Callable[[Frame, str], bool]] = []

    def at(self, when: float, run: Callable[[], None]) -> None:
        """Runs something at that time."""
        heapq.heappush(self._events, (max(when, self.now), next(self._numbers), run))

    def run_until(self, condition: Callable[[], bool], within: float) -> bool:
        """Runs events until the condition holds or the time is over; tells which."""
        end = self.now + within
        while not condition():
            if not self._events or self._events[0][0] > end:
                self.now = end
                return condition()
            self.now, _, run = heapq.heappop(self._events)
            run()
        return True

    def run_for(self, seconds: float) -> None:
        """Runs what happens in that time."""
        self.run_until(lambda: False, seconds)

    # ---- bus

    def carry(self, source: str, subject: str, raw: bytes, deliver: Callable[[], None]) -> None:
        """One message over the bus; lost where it is down."""
        self.frames.append(Frame(self.now, "bus", source, subject, raw))
        if not self.bus_up:
            self.counters["bus.lost"] += 1
            return
        self.at(self.now + 0.0005, deliver)

    # ---- multicast

    def join(self, address: str, host: str, deliver: Callable[[bytes, str], None]) -> None:
        """A host hears a multicast address from now on."""
        self._members.setdefault(address, {})[host] = deliver

    def leave(self, address: str, host: str) -> None:
        """And no longer."""
        self._members.get(address, {}).pop(host, None)

    def send(self, source: str, address: str, raw: bytes) -> None:
        """One datagram to all members of an address but the sender itself."""
        frame = Frame(self.now, "multicast", source, address, raw)
        self.frames.append(frame)
        self.counters["multicast"] += 1
        for host, deliver in list(self._members.get(address, {}).items()):
            if host != source and not any(drop(frame, host) for drop in self.drops):
                self._deliver(raw, source, deliver)

    def _deliver(self, raw: bytes, source: str, deliver: Callable[[bytes, str], None]) -> None:
        weather, chance = self.weather, self.random.random
        if chance() < weather.loss:
            self.counters["multicast.lost"] += 1
            return
        copies = 2 if chance() < weather.duplication else 1
        for _ in range(copies):
            delay = weather.delay + weather.jitter * chance()
            self.at(self.now + delay, lambda: deliver(raw, source))
