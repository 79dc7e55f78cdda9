"""The directory: what it announces and how often, what it believes, and what a network full of liars can't do to it."""

from __future__ import annotations

import itertools

import pytest

from mcsa.errors import Rejected
from mcsa.sap.directory import DELETIONS, ENTRIES, ENTRIES_PER_SOURCE, Directory
from mcsa.sap.packet import LOCAL, SapPacket
from tests.sap.parts import SECRET, described, foreign
from tests.world import NOW, World, seeded

HERE, THERE, LIAR = "198.51.100.1", "198.51.100.2", "198.51.100.66"


def directory(interval: float = 30.0, forget_after: float = 3_600.0) -> Directory:
    return Directory(HERE, seeded(1), interval, forget_after)


def packet(sdp: bytes, source: str = THERE, message_hash: int = 7, deletion: bool = False) -> bytes:
    return SapPacket(source, message_hash, sdp, deletion).encode()


def titles(made: Directory, now: float = NOW) -> list[str]:
    return [entry.sdp.title for entry in made.sessions(now)]


def cause_of(made: Directory, raw: bytes, source: str = THERE, now: float = NOW) -> str:
    with pytest.raises(Rejected) as caught:
        made.arrived(raw, source, now)
    return caught.value.cause


# ---- announcing


def test_an_announcement_goes_out_at_once_and_again_and_is_listed_only_when_heard(world: World):
    made = directory()
    _, (first,) = made.announce(described(world), NOW)
    assert first.address == LOCAL
    assert titles(made) == []
    made.arrived(first.payload, HERE, NOW)
    assert titles(made) == ["Budget meeting"]
    times = []
    for _ in range(50):
        at = made.wake_at()
        assert at is not None
        assert len(made.due(at)) == 1
        times.append(at)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) >= 20.0 and max(gaps) <= 40.0 and len(set(gaps)) > 10  # a third off, either way


def test_the_interval_grows_with_what_is_announced():
    made = directory(interval=1.0)
    for number in range(100):
        made.arrived(packet(foreign(session=number), message_hash=number + 1), THERE, NOW)
    made.announce(foreign("ours"), NOW)
    at = made.wake_at()
    assert at is not None and at - NOW > 10.0


def test_the_hash_changes_with_the_text_and_is_unique_and_never_zero(world: World):
    made = directory()
    texts = [described(world, version=version) for version in range(1, 200)]
    hashes = {made.announce(text, NOW)[0] for text in texts}
    assert len(hashes) == 199 and 0 not in hashes
    assert made.announce(texts[0], NOW)[1] == []  # the same again changes nothing


def test_a_withdrawal_is_said_and_believed(world: World):
    ours, theirs = directory(), Directory(THERE, seeded(2))
    sdp = described(world)
    _, (said,) = ours.announce(sdp, NOW)
    theirs.arrived(said.payload, HERE, NOW)
    deletions = ours.withdraw(sdp, SECRET)
    assert len(deletions) == DELETIONS
    theirs.arrived(deletions[0].payload, HERE, NOW)
    assert titles(theirs) == []
    assert ours.withdraw(sdp, SECRET) == []
    assert ours.due(NOW + 1_000) == []


def test_no_description_no_announcement():
    with pytest.raises(Rejected):
        directory().announce(b"v=0\r\n", NOW)


# ---- believing


def test_a_signed_session_is_deleted_by_its_announcer_only(world: World):
    made = directory()
    sdp = described(world)
    made.arrived(packet(sdp), THERE, NOW)
    secret = f"a=mcsa-withdraw:{SECRET.hex()}\r\n".encode()
    wrong = f"a=mcsa-withdraw:{bytes(16).hex()}\r\n".encode()
    for raw, source in (
        (packet(sdp, deletion=True), THERE),  # the source can be forged
        (packet(b"o=- 1 1 IN IP4 1.2.3.4\r\n" + wrong, deletion=True), THERE),
        (packet(b"o=x\r\na=mcsa-withdraw:zz\r\n", deletion=True), THERE),
        (packet(b"o=x\r\n" + secret, message_hash=8, deletion=True), THERE),
        (packet(b"o=x\r\n" + secret, deletion=True), LIAR),
    ):
        assert cause_of(made, raw, source) == "deletion"
    assert titles(made) == ["Budget meeting"]
    made.arrived(packet(b"o=x\r\n" + secret, deletion=True), THERE, NOW)
    assert titles(made) == []


def test_an_unsigned_session_is_deleted_from_where_it_came():
    made = directory()
    made.arrived(packet(foreign()), THERE, NOW)
    assert cause_of(made, packet(foreign(), deletion=True), LIAR) == "deletion"
    assert cause_of(made, packet(foreign(), message_hash=9, deletion=True)) == "deletion"
    made.arrived(packet(foreign(), deletion=True), THERE, NOW)
    assert titles(made) == []


def test_versions_only_rise():
    made = directory()
    made.arrived(packet(foreign("second", version=2)), THERE, NOW)
    assert cause_of(made, packet(foreign("first", version=1))) == "stale"
    assert cause_of(made, packet(foreign("another", version=2))) == "stale"
    made.arrived(packet(foreign("third", version=3)), THERE, NOW)
    assert titles(made) == ["third"]


def test_another_source_does_not_overwrite(world: World):
    made = directory()
    sdp = described(world)
    made.arrived(packet(sdp), THERE, NOW)
    made.arrived(packet(described(world, title="Another", version=9), source=LIAR), LIAR, NOW)
    assert titles(made) == ["Budget meeting", "Another"]  # the MSM finds out which one is the Coordinator's


def test_what_is_not_announced_any_more_is_forgotten():
    made = directory(forget_after=100.0)
    made.arrived(packet(foreign()), THERE, NOW)
    assert titles(made, NOW + 99) == ["a film"] and titles(made, NOW + 101) == []
    made.arrived(packet(foreign()), THERE, NOW + 50)  # each 50 s: then ten periods
    assert titles(made, NOW + 500) == ["a film"]
    at = made.wake_at()
    assert at == NOW + 550
    made.due(at)
    assert made.wake_at() is None


def test_a_session_ends_when_it_says(world: World):
    made = directory()
    sdp = described(world, end=int(NOW) + 10)
    made.arrived(packet(sdp), THERE, NOW)
    assert titles(made, NOW + 9) == ["Budget meeting"] and titles(made, NOW + 11) == []
    assert cause_of(made, packet(sdp), now=NOW + 11) == "expired"


def test_a_flood_from_one_source_drowns_itself_only(world: World):
    made = directory()
    made.arrived(packet(described(world)), THERE, NOW)
    for number in range(3 * ENTRIES_PER_SOURCE):
        made.arrived(packet(foreign(f"flood {number}", session=number), LIAR, number + 1), LIAR, NOW + number / 100)
    assert "Budget meeting" in titles(made)
    assert len(titles(made)) == ENTRIES_PER_SOURCE + 1


def test_a_flood_from_many_sources_is_bounded_and_the_greediest_lose(world: World):
    made = directory()
    made.arrived(packet(described(world)), THERE, NOW)
    for number in range(ENTRIES + 500):
        source = f"203.0.113.{number % 50}"
        made.arrived(packet(foreign(session=number), source, 1), source, NOW + 1 + number / 1000)
    assert len(titles(made)) <= ENTRIES
    assert "Budget meeting" in titles(made)
