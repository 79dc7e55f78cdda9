"""Several directories, real announcers, liars and a bad network, on a virtual clock, from a seed.

What must hold whatever the seed: what is announced is listed by all, what was withdrawn comes back at nobody, no flood
and no forged deletion takes anything of that away, and the announcements of a scope stay within its bandwidth.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import pytest

from mcsa.errors import Rejected
from mcsa.networks import Networks
from mcsa.sap.announced import Send
from mcsa.sap.cache import ROOM, ROOM_PER_SOURCE
from mcsa.sap.directory import Directory, Place
from mcsa.sap.packet import SapPacket
from mcsa.sap.schedule import BITS_PER_SECOND, Pace
from mcsa.sap.scopes import LOCAL
from mcsa.sap.state import read_state, write_state
from tests.sap.parts import SECRET, described, foreign
from tests.world import NOW, World, seeded

HOURS = 3_600.0
FOR_EVER = 1e9  # seconds: no host asks again here
SEEDS = range(4)
STATIONS = 20


@dataclass
class Station:
    """A directory with a clock that is wrong by `skew` seconds."""

    address: str
    directory: Directory
    skew: float = 0.0
    rejected: set[str] = field(default_factory=set)

    def titles(self, now: float) -> set[str]:
        return {entry.sdp.title for entry in self.directory.sessions(now + self.skew)}


class Network:
    """Loses some datagrams, says some twice, delays all a little. Who sends hears itself."""

    def __init__(self, seed: int, stations: int, loss: float = 0.0, pace: Pace = Pace(floor=30.0)) -> None:  # noqa: B008
        self.chance = random.Random(seed)
        self.now, self.loss = NOW, loss
        self.bits = 0
        self._on_the_way: list[tuple[float, int, Station, bytes, str]] = []
        self._count = 0
        self.stations = [
            Station(
                address, Directory(Place(Networks.only(address)), seeded(100 * seed + number), pace, lease=FOR_EVER)
            )
            for number, address in enumerate(f"198.51.100.{number + 1}" for number in range(stations))
        ]

    def say(self, raw: bytes, source: str) -> None:
        """Anybody's datagram."""
        self.bits += 8 * len(raw)
        for station in self.stations:
            for _ in range(1 + (self.chance.random() < 0.02)):
                if station.address == source or self.chance.random() >= self.loss:
                    self._count += 1
                    at = self.now + self.chance.uniform(0.0, 0.05)
                    heapq.heappush(self._on_the_way, (at, self._count, station, raw, source))

    def send(self, station: Station, sends: list[Send]) -> None:
        for one in sends:
            self.say(one.payload, station.address)

    def announce(self, number: int, sdp: bytes) -> None:
        station = self.stations[number]
        self.send(station, station.directory.announce(sdp, self.now + station.skew)[1])

    def withdraw(self, number: int, sdp: bytes, secret: bytes = SECRET) -> None:
        station = self.stations[number]
        self.send(station, station.directory.withdraw(sdp, secret, self.now + station.skew))

    def run(self, seconds: float) -> None:
        """Until then."""
        ends_at = self.now + seconds
        while True:
            wakes = [
                (at - station.skew, index)
                for index, station in enumerate(self.stations)
                if (at := station.directory.wake_at()) is not None
            ]
            arrives_at = self._on_the_way[0][0] if self._on_the_way else float("inf")
            wakes_at, index = min(wakes, default=(float("inf"), 0))
            if min(arrives_at, wakes_at) > ends_at:
                self.now = ends_at
                return
            if arrives_at <= wakes_at:
                self.now, _, station, raw, source = heapq.heappop(self._on_the_way)
                try:
                    station.directory.arrived(raw, source, LOCAL, self.now + station.skew)
                except Rejected as rejected:
                    station.rejected.add(rejected.cause)
            else:
                self.now = max(self.now, wakes_at)
                station = self.stations[index]
                self.send(station, station.directory.due(self.now + station.skew))

    def restart(self, number: int) -> None:
        """A new process of a directory, with what the old one had written down."""
        station = self.stations[number]
        state = write_state(station.directory, self.now + station.skew)
        station.directory = Directory(
            station.directory.place, seeded(self.chance.randrange(1 << 20)), station.directory._pace, FOR_EVER
        )
        read_state(station.directory, state, self.now + station.skew)


def announced_by_all(network: Network, world: World, but: int = 0) -> list[bytes]:
    """One session of each station but the last ones."""
    texts = []
    for number in range(len(network.stations) - but):
        texts.append(described(world, title=f"of station {number}", version=number + 1))
        network.announce(number, texts[-1])
        network.run(network.chance.uniform(0.0, 40.0))
    return texts


@pytest.mark.parametrize("seed", SEEDS)
def test_all_hear_all_with_loss_and_a_deletion_arrives(world: World, seed: int) -> None:
    network = Network(seed, stations=6, loss=0.3)
    announced_by_all(network, world, but=1)
    gone = described(world, title="gone", secret=b"g" * 16)
    network.announce(5, gone)
    network.run(400.0)
    expected = {f"of station {number}" for number in range(5)}
    assert all(station.titles(network.now) == {*expected, "gone"} for station in network.stations)
    network.withdraw(5, gone, b"g" * 16)
    network.run(6.0)
    told = [station for station in network.stations if "gone" not in station.titles(network.now)]
    assert len(told) >= 5  # said three times with a third lost: about one in 37 misses all
    network.run(2 * HOURS)
    assert all(station.titles(network.now) == expected for station in network.stations)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_many_announce_stays_within_the_bandwidth(world: World, seed: int) -> None:
    """Stations that all begin at once: after the first announcements, by reconsideration."""
    network = Network(seed, stations=STATIONS, pace=Pace(floor=1.0, forget_after=24 * HOURS))
    for number in range(STATIONS):
        network.announce(number, described(world, title=f"of station {number}", version=number + 1))
    network.run(100.0)
    network.bits = 0
    network.run(HOURS / 4)
    assert 0.7 * BITS_PER_SECOND < network.bits / (HOURS / 4) < 1.3 * BITS_PER_SECOND
    assert all(len(station.titles(network.now)) == STATIONS for station in network.stations)


@pytest.mark.parametrize("seed", SEEDS)
def test_floods_forged_deletions_and_modifications_do_nothing(world: World, seed: int) -> None:
    network = Network(seed, stations=4, loss=0.1)
    texts = announced_by_all(network, world)
    network.run(200.0)
    expected = {f"of station {number}" for number in range(4)}
    for round_ in range(30):
        for _ in range(40):
            liar(network, world, texts)
        network.run(20.0)
        for station in network.stations:
            entries = station.directory.sessions(network.now)
            others = [entry for entry in entries if not entry.own]
            assert sum(entry.size for entry in others) <= ROOM
            for source in {entry.source for entry in others}:
                assert sum(entry.size for entry in others if entry.source == source) <= ROOM_PER_SOURCE
            genuine = {entry.sdp.title for entry in entries if entry.packet.payload in texts}
            assert genuine == expected, (round_, station.address)
    assert all("deletion" in station.rejected for station in network.stations)


def liar(network: Network, world: World, texts: list[bytes]) -> None:
    """One lie, under any source."""
    chance, number = network.chance, network.chance.randrange(len(network.stations))
    own = network.stations[number].address
    source = chance.choice((own, own, f"203.0.113.{chance.randrange(8)}"))
    sdp, message_hash = texts[number], chance.randrange(1, 65_536)
    genuine = next(own.packet for own in network.stations[number].directory.announced())
    match chance.randrange(6):
        case 0:
            said = SapPacket(source, genuine.hash, sdp, deletion=True)
        case 1:
            wrong = f"o=x\r\na=mcsa-withdraw:{chance.randbytes(16).hex()}\r\n".encode()
            said = SapPacket(source, genuine.hash, wrong, deletion=True)
        case 2:
            said = SapPacket(source, message_hash, sdp.replace(b" IN IP4", b"9 IN IP4", 1).replace(b"s=of", b"s=no"))
        case 3:
            said = SapPacket(source, message_hash, sdp)  # a replay
        case 4:
            noise = foreign(f"flood {message_hash}", session=message_hash) + b"a=x:" + b"y" * 900 + b"\r\n"
            said = SapPacket(source, message_hash, noise)
        case _:
            network.say(chance.randbytes(chance.randrange(600)), source)
            return
    network.say(said.encode(), source)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_withdrawn_never_comes_back(world: World, seed: int) -> None:
    """Also with a thousand pairs of announcement and withdrawal in the same name, and after a restart."""
    network = Network(seed, stations=3)
    sdp = described(world, title="gone")
    network.announce(0, sdp)
    network.run(200.0)
    network.withdraw(0, sdp)
    network.run(10.0)
    for number in range(1_000):
        secret = number.to_bytes(16, "big")
        pair = described(world, title="a pair", version=number + 5, secret=secret)
        source = network.chance.choice(("198.51.100.1", "203.0.113.7"))
        network.say(SapPacket(source, 1 + number, pair).encode(), source)
        network.run(0.2)
        deletion = f"o=x\r\na=mcsa-withdraw:{secret.hex()}\r\n".encode()
        network.say(SapPacket(source, 1 + number, deletion, deletion=True).encode(), source)
        network.run(0.2)
    network.restart(1)
    for source in ("198.51.100.1", "203.0.113.9"):
        network.say(SapPacket(source, 77, sdp).encode(), source)
    network.run(10.0)
    assert all("gone" not in station.titles(network.now) for station in network.stations)
    assert all("withdrawn" in station.rejected for station in network.stations)


@pytest.mark.parametrize("seed", SEEDS)
def test_wrong_clocks_and_clocks_that_jump_hide_nothing_for_long(world: World, seed: int) -> None:
    network = Network(seed, stations=4, loss=0.1)
    for station in network.stations:
        station.skew = network.chance.uniform(-3 * HOURS, 3 * HOURS)
    announced_by_all(network, world)
    network.run(300.0)
    expected = {f"of station {number}" for number in range(4)}
    for _ in range(3):
        jumped = network.chance.choice(network.stations)
        jumped.skew += network.chance.choice((-1, 1)) * network.chance.uniform(HOURS, 48 * HOURS)
        network.send(jumped, jumped.directory.due(network.now + jumped.skew))  # its core notices (services/sd)
        network.run(HOURS / 2)
        assert all(station.titles(network.now) == expected for station in network.stations)


@pytest.mark.parametrize("seed", SEEDS)
def test_restarts_lose_nothing(world: World, seed: int) -> None:
    network = Network(seed, stations=3, loss=0.2)
    announced_by_all(network, world)
    network.run(300.0)
    expected = {f"of station {number}" for number in range(3)}
    for _ in range(10):
        number = network.chance.randrange(3)
        network.restart(number)
        assert network.stations[number].titles(network.now) == expected  # at once, from its file
        network.run(network.chance.uniform(1.0, 400.0))
    network.run(2 * HOURS)
    assert all(station.titles(network.now) == expected for station in network.stations)
