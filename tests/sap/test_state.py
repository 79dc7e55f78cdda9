"""What a directory writes down: it goes on after a restart, and believes the file no more than the network."""

from __future__ import annotations

import random

import pytest

from mcsa.errors import Rejected
from mcsa.networks import Networks
from mcsa.sap.cache import ROOM_PER_SOURCE
from mcsa.sap.directory import LEASE, Directory, Place
from mcsa.sap.packet import SapPacket
from mcsa.sap.schedule import Pace
from mcsa.sap.scopes import LOCAL
from mcsa.sap.state import LARGEST_STATE, read_state, write_state
from mcsa.v1.directory_state_pb2 import DirectoryState, HeardAnnouncement, OwnAnnouncement
from tests.sap.parts import SECRET, described, foreign
from tests.world import NOW, World, seeded

HERE, THERE = "198.51.100.1", "198.51.100.2"


def directory() -> Directory:
    return Directory(Place(Networks.only(HERE)), seeded(1), Pace(floor=30.0, forget_after=600.0))


def packet(sdp: bytes, message_hash: int = 7, deletion: bool = False) -> bytes:
    return SapPacket(THERE, message_hash, sdp, deletion).encode()


def restarted(before: Directory, now: float, left_out: int = 0) -> Directory:
    after = directory()
    assert read_state(after, write_state(before, now), now) == left_out
    return after


def titles(made: Directory, now: float = NOW) -> list[str]:
    return [entry.sdp.title for entry in made.sessions(now)]


def test_it_goes_on_announcing_and_lists_what_it_had_heard(world: World):
    before, sdp = directory(), described(world)
    before.announce(foreign("ours", session=9), NOW, "alpha")
    for at in (NOW, NOW + 20):
        before.arrived(packet(sdp), THERE, LOCAL, at)
    after = restarted(before, NOW + 25)
    (own,) = after.announced()
    assert (own.host, own.announced_at, own.asked_at) == ("alpha", NOW, NOW)
    assert after.due(NOW + 26) == []  # not all at once
    assert len(after.due(NOW + 25 + 40)) == 1
    (entry,) = after.sessions(NOW + 25)
    assert (entry.first_heard_at, entry.last_heard_at, entry.interval) == (NOW, NOW + 20, 20.0)
    assert entry.groups == {LOCAL} and after.cache.count(LOCAL) == 1
    assert titles(after, NOW + 20 + 600) == []
    after.arrived(packet(sdp), THERE, LOCAL, NOW + 40)
    assert titles(after, NOW + 40) == ["Budget meeting"]


def test_what_was_withdrawn_stays_withdrawn(world: World):
    before, sdp, ours = directory(), described(world), described(world, version=2)
    before.arrived(packet(sdp), THERE, LOCAL, NOW)
    before.announce(ours, NOW)
    before.withdraw(ours, SECRET, NOW)
    after = restarted(before, NOW)
    for said in (sdp, ours):  # both have the same secret
        with pytest.raises(Rejected) as caught:
            after.arrived(packet(said), THERE, LOCAL, NOW)
        assert caught.value.cause == "withdrawn"
    assert [each.own for each in after.cache.withdrawn] == [True]


def test_what_would_have_expired_has(world: World):
    before = directory()
    before.announce(foreign("ours", session=9), NOW)
    before.arrived(packet(described(world)), THERE, LOCAL, NOW)
    after = restarted(before, NOW + 601, left_out=0)
    assert titles(after, NOW + 601) == [] and len(after.announced()) == 1
    raw = write_state(before, NOW)
    late = directory()
    assert read_state(late, raw, NOW + LEASE) == 1
    late.due(NOW + LEASE)
    assert late.announced() == []


def test_a_file_from_the_future_makes_nothing_live_longer(world: World):
    """A clock that went wrong, or somebody's file."""
    before = directory()
    before.arrived(packet(described(world)), THERE, LOCAL, NOW + 86_400)
    after = directory()
    read_state(after, write_state(before, NOW + 86_400), NOW)
    (entry,) = after.sessions(NOW)
    assert entry.first_heard_at == entry.last_heard_at == NOW and not entry.repeated


def test_a_file_says_nothing_that_the_network_could_not():
    heard = [
        HeardAnnouncement(datagram=b"\x20\0", source=THERE, groups=[LOCAL], last_heard_ms=round(NOW * 1000)),
        HeardAnnouncement(datagram=packet(foreign(), deletion=True), source=THERE, groups=[LOCAL]),
        HeardAnnouncement(datagram=packet(foreign()), source="x" * 99, groups=[LOCAL]),
        HeardAnnouncement(datagram=packet(foreign()), source=THERE),
        HeardAnnouncement(datagram=packet(b"v=0\r\ns=x\r\n"), source=THERE, groups=[LOCAL]),
    ]
    state = DirectoryState(heard=heard, announced=[OwnAnnouncement(sdp=b"v=0\r\n"), OwnAnnouncement(sdp=b"\xff")])
    made = directory()
    assert read_state(made, state.SerializeToString(), NOW) == 7
    assert made.sessions(NOW) == [] and made.announced() == []


def test_a_file_has_the_same_bounds():
    datagrams = [packet(foreign(session=number) + b"a=x:" + b"y" * 1_500 + b"\r\n") for number in range(2_000)]
    now_ms = round(NOW * 1000)
    heard = [
        HeardAnnouncement(datagram=raw, source=THERE, groups=[LOCAL], first_heard_ms=now_ms, last_heard_ms=now_ms)
        for raw in datagrams
    ]
    made = directory()
    read_state(made, DirectoryState(heard=heard).SerializeToString(), NOW)
    assert sum(entry.size for entry in made.sessions(NOW)) <= ROOM_PER_SOURCE
    with pytest.raises(Rejected) as caught:
        read_state(made, bytes(LARGEST_STATE + 1), NOW)
    assert caught.value.cause == "state"


def test_a_file_that_was_cut_or_changed_ends_no_directory(world: World):
    before, chance = directory(), random.Random(2)
    before.announce(described(world), NOW)
    for number in range(5):
        before.arrived(packet(foreign(session=number), number + 1), THERE, LOCAL, NOW)
    before.arrived(packet(described(world, version=2)), THERE, LOCAL, NOW)
    whole = write_state(before, NOW)
    for _ in range(600):
        changed = bytearray(whole)
        changed[chance.randrange(len(changed))] = chance.randrange(256)
        raw = bytes(changed[: chance.randrange(len(changed))] if chance.random() < 0.3 else changed)
        made = directory()
        try:
            read_state(made, raw, NOW)
        except Rejected as rejected:
            assert rejected.cause == "state"
        made.due(NOW + 1)
        made.sessions(NOW)
