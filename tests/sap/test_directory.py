"""The directory: what it announces and how often, what it believes, and what a network full of liars can't do to it."""

from __future__ import annotations

import itertools

import pytest

from mcsa.errors import Rejected
from mcsa.networks import DEFAULT, Network, Networks
from mcsa.sap.announced import DELETED_AGAIN_AFTER
from mcsa.sap.cache import FORGET_PERIODS, ROOM, ROOM_PER_SOURCE
from mcsa.sap.directory import LEASE, Directory, Place
from mcsa.sap.packet import SapPacket, parse_packet
from mcsa.sap.schedule import Pace
from mcsa.sap.scopes import LINK, LOCAL, ORGANISATION
from tests.sap.parts import SECRET, described, foreign
from tests.world import NOW, World, seeded

HERE, THERE, LIAR = "198.51.100.1", "198.51.100.2", "198.51.100.66"


def directory(interval: float = 30.0, forget_after: float = 3_600.0, address: str = HERE) -> Directory:
    return Directory(Place(Networks.only(address)), seeded(1), Pace(interval, forget_after=forget_after))


def packet(sdp: bytes, source: str = THERE, message_hash: int = 7, deletion: bool = False) -> bytes:
    return SapPacket(source, message_hash, sdp, deletion).encode()


def titles(made: Directory, now: float = NOW) -> list[str]:
    return [entry.sdp.title for entry in made.sessions(now)]


def cause_of(made: Directory, raw: bytes, source: str = THERE, now: float = NOW) -> str:
    with pytest.raises(Rejected) as caught:
        made.arrived(raw, source, LOCAL, now)
    return caught.value.cause


# ---- announcing


def test_an_announcement_goes_out_at_once_and_again_and_is_listed_only_when_heard(world: World):
    made = directory()
    _, (first,) = made.announce(described(world), NOW)
    assert first.address == LOCAL
    assert titles(made) == []
    made.arrived(first.payload, HERE, LOCAL, NOW)
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
        made.arrived(packet(foreign(session=number), message_hash=number + 1), THERE, LOCAL, NOW)
    made.announce(foreign("ours"), NOW)
    at = made.wake_at()
    assert at is not None and at - NOW > 10.0


def test_the_hash_changes_with_the_text_and_is_unique_and_never_zero(world: World):
    made = directory()
    texts = [foreign(session=number) for number in range(1, 200)]
    hashes = {made.announce(text, NOW)[0] for text in texts}
    assert len(hashes) == 199 and 0 not in hashes
    assert made.announce(texts[0], NOW)[1] == []  # the same again changes nothing
    assert len({made.announce(described(world, version=version), NOW)[0] for version in range(1, 20)}) == 19


def test_a_withdrawal_is_said_and_believed(world: World):
    ours, theirs = directory(), directory(address=THERE)
    sdp = described(world)
    _, (said,) = ours.announce(sdp, NOW)
    theirs.arrived(said.payload, HERE, LOCAL, NOW)
    first = ours.withdraw(sdp, SECRET, NOW)
    theirs.arrived(first[0].payload, HERE, LOCAL, NOW)
    assert titles(theirs) == []
    later = []
    while (at := ours.wake_at()) is not None:
        later += ours.due(at)
    assert later == first * len(DELETED_AGAIN_AFTER)  # the first may have been lost
    assert ours.withdraw(sdp, b"", NOW) == []


def test_what_is_not_announced_any_more_is_withdrawn_by_its_secret_all_the_same(world: World):
    """The directory has lost its state, or its announcing host was away for long."""
    ours, theirs, sdp = directory(), directory(address=THERE), described(world)
    theirs.arrived(packet(sdp, HERE), HERE, LOCAL, NOW)
    with pytest.raises(Rejected) as caught:
        ours.withdraw(sdp, b"another", NOW)
    assert caught.value.cause == "secret"
    (said,) = ours.withdraw(sdp, SECRET, NOW)
    theirs.arrived(said.payload, HERE, LOCAL, NOW)
    assert titles(theirs) == []
    assert ours.withdraw(foreign(), SECRET, NOW) == []  # nothing shows that it is anybody's here


def test_a_wrong_secret_ends_no_announcement(world: World):
    made, sdp = directory(), described(world)
    made.announce(sdp, NOW)
    with pytest.raises(Rejected):
        made.withdraw(sdp, b"another", NOW)
    assert made.find_announced(sdp) is not None
    assert len(made.withdraw(sdp, b"", NOW)) == 1  # a plain deletion: it is announced no longer, and nobody believes it
    assert made.find_announced(sdp) is None


def test_a_modified_description_takes_the_place_of_its_hosts_earlier_one():
    ours, theirs = directory(), directory(address=THERE)
    (first,) = ours.announce(foreign("first", version=1), NOW, "alpha")[1]
    theirs.arrived(first.payload, HERE, LOCAL, NOW)
    deletion, second = ours.announce(foreign("second", version=2), NOW + 1, "alpha")[1]
    assert parse_packet(second.payload).hash != parse_packet(first.payload).hash
    theirs.arrived(deletion.payload, HERE, LOCAL, NOW + 1)
    theirs.arrived(second.payload, HERE, LOCAL, NOW + 1)
    assert titles(theirs, NOW + 1) == ["second"]
    assert [own.parsed.title for own in ours.announced()] == ["second"]
    with pytest.raises(Rejected) as caught:
        ours.announce(foreign("old", version=1), NOW, "alpha")
    assert caught.value.cause == "stale"
    assert len(ours.announce(foreign("beta's own", version=1), NOW, "beta")[1]) == 1


def test_an_announcement_that_its_host_asks_for_no_more_ends():
    made = directory()
    made.announce(foreign(), NOW)
    made.announce(foreign(), NOW + LEASE / 2)
    made.due(NOW + LEASE)
    assert made.find_announced(foreign()) is not None
    assert made.due(NOW + LEASE * 3 / 2) == []
    assert made.find_announced(foreign()) is None and made.wake_at() is None


def test_an_ipv6_session_goes_to_its_scope_from_an_ipv6_address():
    sdp = foreign().replace(b"c=IN IP4 239.255.7.9/5", b"c=IN IP6 ff18::7:9")
    with pytest.raises(Rejected) as caught:
        directory().announce(sdp, NOW)
    assert caught.value.cause == "scope"
    made = Directory(Place(Networks({DEFAULT: Network(HERE), "ff00::/8": Network("2001:db8::1")})), seeded(1))
    (said,) = made.announce(sdp, NOW)[1]
    assert said.address == "ff08::2:7ffe" and parse_packet(said.payload).origin == "2001:db8::1"
    made.arrived(said.payload, "2001:db8::1", said.address, NOW)
    (entry,) = made.sessions(NOW)
    assert entry.own


MEDIA = "203.0.113.1"


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["239.255.7.9"], [("", HERE, LOCAL)]),
        (["239.193.7.9"], [("239.193.0.0/16", MEDIA, ORGANISATION)]),
        (["239.255.7.9", "239.193.7.9"], [("", HERE, LOCAL), ("239.193.0.0/16", MEDIA, ORGANISATION)]),
        (["239.193.7.9", "239.195.7.9", "239.194.7.9"], [("239.193.0.0/16", MEDIA, ORGANISATION)]),  # one interface
        (["239.196.7.9", "239.255.7.9"], [("", HERE, LOCAL)]),  # as far as the directory is there
    ],
)
def test_a_session_is_announced_in_each_network_of_its_groups_once(
    groups: list[str], expected: list[tuple[str, str, str]]
) -> None:
    networks = {DEFAULT: Network(HERE), "239.196.0.0/16": Network("")}
    networks |= {f"239.{number}.0.0/16": Network(MEDIA) for number in (193, 194, 195)}
    made = Directory(Place(Networks(networks)), seeded(1))
    start, media = foreign().split(b"m=")
    sdp = start + b"".join(b"m=" + media.replace(b"239.255.7.9", group.encode()) for group in groups)
    sends = made.announce(sdp, NOW)[1]
    said = [parse_packet(send.payload) for send in sends]
    assert [(send.network, packet.origin, send.address) for send, packet in zip(sends, said, strict=True)] == expected
    for send, packet in zip(sends, said, strict=True):
        made.arrived(send.payload, packet.origin, send.address, NOW)
    assert all(entry.own for entry in made.sessions(NOW)) and len(made.sessions(NOW)) == len(expected)
    deletions = made.withdraw(sdp, b"", NOW)
    assert [(send.network, send.address) for send in deletions] == [(network, at) for network, _, at in expected]


def test_a_session_of_a_network_that_the_directory_is_not_in_is_refused_with_the_way_out() -> None:
    made = Directory(Place(Networks({DEFAULT: Network(HERE), "239.255.0.0/16": Network("")})), seeded(1))
    with pytest.raises(Rejected, match=r"239\.255\.0\.0/16") as caught:
        made.announce(foreign(), NOW)
    assert caught.value.cause == "scope"


def test_on_the_link_it_is_said_with_bare_line_feeds_and_is_one_session(world: World):
    made = Directory(Place(Networks.only(HERE), link=True), seeded(1))
    sdp = described(world)
    scope, link = made.announce(sdp, NOW)[1]
    assert (scope.address, link.address) == (LOCAL, LINK)
    bare = parse_packet(link.payload)
    assert bare.payload == sdp.replace(b"\r\n", b"\n") and bare.hash != parse_packet(scope.payload).hash
    for said in (link, scope, link, scope):
        made.arrived(said.payload, HERE, said.address, NOW)
    (entry,) = made.sessions(NOW)
    assert entry.own and entry.groups == {LOCAL, LINK}
    made.withdraw(sdp, SECRET, NOW)
    assert titles(made) == []


def test_clashes_are_other_sessions_at_the_same_address(world: World):
    made = directory()
    sdp = described(world, groups=2)  # 239.255.77.1 and .2
    made.arrived(packet(sdp), THERE, LOCAL, NOW)
    made.arrived(packet(described(world, title="a forged copy"), message_hash=8), THERE, LOCAL, NOW)
    for number, address in enumerate((b"239.255.77.2/5", b"239.255.77.3/5", b"239.255.76.250/5/20"), start=1):
        text = foreign(f"film {number}", session=number).replace(b"239.255.7.9/5", address)
        made.arrived(packet(text, message_hash=number), THERE, LOCAL, NOW + number)
    assert [entry.sdp.title for entry in made.clashes(sdp, NOW + 9)] == ["film 1", "film 3"]
    wide = foreign(session=7).replace(b"239.255.7.9/5", b"239.255.77.1/5/5")
    assert [entry.sdp.title for entry in made.clashes(wide, NOW + 9)] == [
        "Budget meeting", "a forged copy", "film 1", "film 2", "film 3",
    ]  # fmt: skip


def test_no_description_no_announcement():
    with pytest.raises(Rejected):
        directory().announce(b"v=0\r\n", NOW)


def test_announcing_ends_with_the_session(world: World):
    made = directory()
    sdp = described(world, end=int(NOW) + 10)
    made.announce(sdp, NOW)
    assert made.wake_at() == int(NOW) + 10 and made.find_announced(sdp)
    assert made.due(NOW + 10) == []
    assert made.wake_at() is None and not made.find_announced(sdp)
    with pytest.raises(Rejected) as caught:
        made.announce(sdp, NOW + 11)
    assert caught.value.cause == "expired"


# ---- believing


def test_a_signed_session_is_deleted_by_its_announcer_only(world: World):
    made = directory()
    sdp = described(world)
    made.arrived(packet(sdp), THERE, LOCAL, NOW)
    secret = f"a=mcsa-withdraw:{SECRET.hex()}\r\n".encode()
    wrong = f"a=mcsa-withdraw:{bytes(16).hex()}\r\n".encode()
    for raw, source in (
        (packet(sdp, deletion=True), THERE),  # the source can be forged
        (packet(b"o=- 1 1 IN IP4 1.2.3.4\r\n" + wrong, deletion=True), THERE),
        (packet(b"o=x\r\na=mcsa-withdraw:zz\r\n", deletion=True), THERE),
    ):
        assert cause_of(made, raw, source) == "deletion"
    assert titles(made) == ["Budget meeting"]
    made.arrived(packet(b"o=x\r\n" + secret, deletion=True), THERE, LOCAL, NOW)
    assert titles(made) == []


def test_an_unsigned_session_is_deleted_from_where_it_came():
    made = directory()
    made.arrived(packet(foreign()), THERE, LOCAL, NOW)
    assert cause_of(made, packet(foreign(), deletion=True), LIAR) == "deletion"
    assert cause_of(made, packet(foreign(), message_hash=9, deletion=True)) == "deletion"
    made.arrived(packet(foreign(), deletion=True), THERE, LOCAL, NOW)
    assert titles(made) == []


def test_versions_only_rise():
    made = directory()
    made.arrived(packet(foreign("second", version=2)), THERE, LOCAL, NOW)
    assert cause_of(made, packet(foreign("first", version=1))) == "stale"
    assert cause_of(made, packet(foreign("another", version=2))) == "stale"
    made.arrived(packet(foreign("third", version=3)), THERE, LOCAL, NOW)
    assert titles(made) == ["third"]


def test_two_ffmpegs_on_one_host_are_two_sessions():
    made = directory()
    for number, title in enumerate(("one", "two"), start=1):  # ffmpeg's o= line is always the same, its hash random
        sdp = foreign(title).replace(b"o=- 1 1 IN IP4 192.0.2.9", b"o=- 0 0 IN IP4 127.0.0.1")
        made.arrived(packet(sdp, message_hash=number), THERE, LOCAL, NOW)
    assert titles(made) == ["one", "two"]


def test_a_forged_newer_version_does_not_replace_a_signed_session(world: World):
    made = directory()
    sdp = described(world)
    made.arrived(packet(sdp), THERE, LOCAL, NOW)
    forged = described(world, title="Cancelled", version=999)  # with the commitment, which everybody can read
    made.arrived(packet(forged, message_hash=8), THERE, LOCAL, NOW + 1)
    made.arrived(packet(forged.replace(b"a=mcsa-withdraw:", b"a=nothing:"), message_hash=7), THERE, LOCAL, NOW + 2)
    made.arrived(packet(sdp), THERE, LOCAL, NOW + 3)
    assert titles(made) == ["Budget meeting", "Cancelled", "Cancelled"]  # the MSM sees which one is signed


def test_a_forged_session_with_the_same_hash_does_not_keep_ours_from_being_deleted(world: World):
    made = directory()
    sdp = described(world)
    made.arrived(packet(foreign("in the way")), THERE, LOCAL, NOW)
    made.arrived(packet(sdp), THERE, LOCAL, NOW)
    made.arrived(packet(described(world, title="a copy"), message_hash=8), THERE, LOCAL, NOW)
    made.arrived(packet(b"o=x\r\na=mcsa-withdraw:" + SECRET.hex().encode() + b"\r\n", deletion=True), THERE, LOCAL, NOW)
    assert titles(made) == ["in the way"]


def test_what_was_withdrawn_is_not_brought_back_by_a_replay(world: World):
    made = directory()
    sdp = described(world)
    made.arrived(packet(sdp), THERE, LOCAL, NOW)
    made.arrived(packet(b"o=x\r\na=mcsa-withdraw:" + SECRET.hex().encode() + b"\r\n", deletion=True), THERE, LOCAL, NOW)
    assert cause_of(made, packet(sdp)) == "withdrawn"
    with pytest.raises(Rejected) as caught:
        made.announce(sdp, NOW)
    assert caught.value.cause == "withdrawn"


def test_another_source_does_not_overwrite(world: World):
    made = directory()
    sdp = described(world)
    made.arrived(packet(sdp), THERE, LOCAL, NOW)
    made.arrived(packet(described(world, title="Another", version=9), source=LIAR), LIAR, LOCAL, NOW)
    assert titles(made) == ["Budget meeting", "Another"]  # the MSM finds out which one is the Coordinator's


def test_what_is_not_announced_any_more_is_forgotten():
    made = directory(forget_after=100.0)
    made.arrived(packet(foreign()), THERE, LOCAL, NOW)
    assert titles(made, NOW + 99) == ["a film"] and titles(made, NOW + 101) == []
    made.arrived(packet(foreign()), THERE, LOCAL, NOW + 50)  # each 50 s: then ten periods
    assert titles(made, NOW + 500) == ["a film"]
    at = 0.0
    while (wanted := made.wake_at()) is not None:
        at = wanted
        made.due(at)
    assert at == NOW + 550


def test_a_session_ends_when_it_says(world: World):
    made = directory()
    sdp = described(world, end=int(NOW) + 10)
    made.arrived(packet(sdp), THERE, LOCAL, NOW)
    assert titles(made, NOW + 9) == ["Budget meeting"] and titles(made, NOW + 11) == []
    assert cause_of(made, packet(sdp), now=NOW + 11) == "expired"


# ---- floods


def room(made: Directory, source: str | None = None) -> int:
    return sum(entry.size for entry in made.sessions(NOW) if source in (None, entry.source))


def flood(made: Directory, source: str, sessions: range, now: float = NOW) -> None:
    for number in sessions:
        raw = packet(foreign(f"flood {number}", session=number) + b"a=x:" + b"y" * 800 + b"\r\n", source, number + 1)
        made.arrived(raw, source, LOCAL, now + number / 10_000)


def test_a_flood_from_one_source_drowns_itself_only(world: World):
    made = directory()
    made.arrived(packet(described(world)), THERE, LOCAL, NOW)
    flood(made, LIAR, range(200))
    assert "Budget meeting" in titles(made)
    assert ROOM_PER_SOURCE - 2_000 < room(made, LIAR) <= ROOM_PER_SOURCE
    assert "flood 199" in titles(made) and "flood 0" not in titles(made)


def test_a_flood_from_many_sources_is_bounded_and_the_greediest_lose(world: World):
    made = directory()
    made.arrived(packet(described(world)), THERE, LOCAL, NOW)
    for number in range(50):
        flood(made, f"203.0.113.{number}", range(20))
    assert ROOM - 2_000 < room(made) <= ROOM
    assert "Budget meeting" in titles(made)


def test_a_flood_that_forges_the_source_does_not_drown_what_is_repeated(world: World):
    made = directory()
    sdp = described(world)
    for times in range(2):
        made.arrived(packet(sdp), THERE, LOCAL, NOW - 1 + times)
    flood(made, THERE, range(200))
    assert "Budget meeting" in titles(made)


def test_a_flood_never_drowns_what_we_announce(world: World):
    made = directory()
    _, (said,) = made.announce(described(world), NOW)
    made.arrived(said.payload, HERE, LOCAL, NOW)
    for times in range(2):
        flood(made, HERE, range(200), NOW + times)
    assert "Budget meeting" in titles(made)


def test_a_newer_version_that_is_longer_needs_its_room_too():
    made = directory()
    flood(made, THERE, range(100))
    taken = room(made)
    short, long = foreign("short", session=999), foreign("long", version=2, session=999) + b"a=x:" + b"y" * 1_500
    made.arrived(packet(short), THERE, LOCAL, NOW + 1)
    made.arrived(packet(long + b"\r\n"), THERE, LOCAL, NOW + 2)
    assert "long" in titles(made, NOW + 2)
    assert ROOM_PER_SOURCE - 4_000 < room(made) <= ROOM_PER_SOURCE and taken <= ROOM_PER_SOURCE


def test_a_flood_does_not_silence_us(world: World):
    made = directory(forget_after=100.0)
    for number in range(20):
        flood(made, f"203.0.113.{number}", range(60))
    made.announce(described(world), NOW)
    at = made.wake_at()
    assert at is not None and at - NOW <= 4 / 3 * 100.0 / FORGET_PERIODS + 30.0


def test_an_announcement_with_bare_line_feeds_is_withdrawn_too():
    made = directory()
    sdp = foreign().replace(b"\r\n", b"\n")
    made.announce(sdp, NOW)
    deletions = made.withdraw(sdp, b"", NOW)
    assert b"o=- 1 1 IN IP4 192.0.2.9\r\n" in deletions[0].payload


def test_a_forger_who_says_our_text_first_under_another_hash_does_not_keep_it_from_being_deleted(world: World):
    made = directory()
    sdp = described(world)
    for message_hash in (9, 7):
        made.arrived(packet(sdp, message_hash=message_hash), THERE, LOCAL, NOW)
    made.arrived(packet(b"o=x\r\na=mcsa-withdraw:" + SECRET.hex().encode() + b"\r\n", deletion=True), THERE, LOCAL, NOW)
    assert titles(made) == []
