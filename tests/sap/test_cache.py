"""What is believed of what is heard: RFC 2974, section 5, and what the clock does to it."""

from __future__ import annotations

import struct

import pytest

from mcsa.errors import Rejected
from mcsa.networks import Networks
from mcsa.sap.directory import Directory, Place
from mcsa.sap.packet import PAYLOAD_TYPE, SapPacket
from mcsa.sap.schedule import Pace
from mcsa.sap.scopes import GLOBAL, LINK, LOCAL
from tests.sap.parts import SECRET, described, foreign
from tests.world import NOW, World, seeded

HERE, THERE = "198.51.100.1", "198.51.100.2"


def directory(pace: Pace = Pace(floor=1.0)) -> Directory:  # noqa: B008 - never changed
    return Directory(Place(Networks.only(HERE)), seeded(1), pace)


def packet(sdp: bytes, message_hash: int = 7, deletion: bool = False) -> bytes:
    return SapPacket(THERE, message_hash, sdp, deletion).encode()


def authenticated(sdp: bytes, deletion: bool = False) -> bytes:
    head = struct.pack(">BBH", 0x24 if deletion else 0x20, 2, 7)
    return head + bytes([198, 51, 100, 2]) + b"\x10signed." + PAYLOAD_TYPE + sdp


def titles(made: Directory, now: float = NOW) -> list[str]:
    return [entry.sdp.title for entry in made.sessions(now)]


def cause_of(made: Directory, raw: bytes, now: float = NOW) -> str:
    with pytest.raises(Rejected) as caught:
        made.arrived(raw, THERE, LOCAL, now)
    return caught.value.cause


def test_one_with_an_authentication_header_is_neither_replaced_nor_deleted():
    """RFC 2974 section 5: without the header, or with another, it is a different announcement. Nobody here can check
    headers, so each text is one."""
    made = directory()
    made.arrived(authenticated(foreign("signed")), THERE, LOCAL, NOW)
    made.arrived(packet(foreign("plain", version=2)), THERE, LOCAL, NOW)
    made.arrived(authenticated(foreign("signed again", version=3)), THERE, LOCAL, NOW)
    assert titles(made) == ["signed", "plain", "signed again"]
    made.arrived(packet(foreign(), deletion=True), THERE, LOCAL, NOW)  # of the plain one
    assert titles(made) == ["signed", "signed again"]
    for deletion in (packet(foreign(), deletion=True), authenticated(foreign(), deletion=True)):
        assert cause_of(made, deletion) == "deletion"


def test_a_modified_text_with_the_same_version_needs_another_hash():
    """Not all tools raise the version; the RFC has them change the hash (section 5)."""
    made = directory()
    made.arrived(packet(foreign("first")), THERE, LOCAL, NOW)
    assert cause_of(made, packet(foreign("second"))) == "stale"
    made.arrived(packet(foreign("second"), message_hash=8), THERE, LOCAL, NOW)
    assert titles(made) == ["second"]


def test_an_expired_one_is_heard_anew_even_before_it_is_cleared_away():
    made = directory(Pace(floor=1.0, forget_after=10.0))
    made.arrived(packet(foreign("first", version=5)), THERE, LOCAL, NOW)
    made.arrived(packet(foreign("anew", version=1)), THERE, LOCAL, NOW + 11)
    assert titles(made, NOW + 11) == ["anew"]
    made.arrived(packet(foreign("anew", version=1)), THERE, LOCAL, NOW + 30)
    (entry,) = made.sessions(NOW + 30)
    assert entry.first_heard_at == NOW + 30


def test_what_comes_by_two_addresses_counts_in_both_and_once_a_period():
    made = directory(Pace(floor=1.0, forget_after=100.0))
    for period in range(5):
        for group in (GLOBAL, LINK):
            made.arrived(packet(foreign()), THERE, group, NOW + 20 * period + (0.01 if group == LINK else 0.0))
    (entry,) = made.sessions(NOW + 80)
    assert entry.groups == {GLOBAL, LINK}
    assert (made.cache.count(GLOBAL), made.cache.count(LINK), made.cache.count(LOCAL)) == (1, 1, 0)
    made.arrived(packet(foreign(), deletion=True), THERE, GLOBAL, NOW + 80)
    assert (made.cache.count(GLOBAL), made.cache.count(LINK)) == (0, 0)


def test_each_scope_has_its_own_bandwidth(world: World):
    """RFC 2974 section 3.1: the announcements on one SAP address."""

    def wait(group: str) -> float:
        made = directory()
        for number in range(100):
            made.arrived(packet(foreign(session=number), message_hash=number + 1), THERE, group, NOW)
        made.announce(described(world), NOW)
        return made._interval(made.announced()[0])

    assert wait(GLOBAL) < 3.0 < 100.0 < wait(LOCAL)


def test_who_announces_what_another_announces_too_does_so_half_as_often(world: World):
    made, sdp = directory(), described(world)
    made.announce(sdp, NOW)
    (own,) = made.announced()
    for number in range(50):
        made.arrived(packet(foreign(session=number), message_hash=number + 1), THERE, LOCAL, NOW)
    alone = made._interval(own)
    made.arrived(packet(sdp), THERE, LOCAL, NOW)
    assert abs(made._interval(own) - 2 * alone * 51 / 50) < 0.01


def test_a_clock_that_was_set_back_makes_nothing_live_longer(world: World):
    made = directory(Pace(floor=1.0, forget_after=100.0))
    made.announce(foreign("ours", session=9), NOW)
    made.arrived(packet(described(world)), THERE, LOCAL, NOW)
    back = NOW - 86_400
    made.due(back)
    assert made.wake_at() is not None and made.wake_at() <= back + 2  # type: ignore[operator] # it goes on announcing
    assert len(made.due(back + 2)) == 1
    made.due(back + 101)
    assert titles(made, back + 101) == []
    made.withdraw(foreign("ours", session=9), b"", back + 101)
    assert made.wake_at() is not None


def test_the_same_withdrawal_twice_is_a_deletion_of_nothing(world: World):
    made, sdp = directory(), described(world)
    made.arrived(packet(sdp), THERE, LOCAL, NOW)
    deletion = packet(b"o=x\r\na=mcsa-withdraw:" + SECRET.hex().encode() + b"\r\n", deletion=True)
    made.arrived(deletion, THERE, LOCAL, NOW)
    assert cause_of(made, deletion) == "deletion"


def test_a_datagram_that_is_known_is_not_looked_at_again_but_keeps_to_its_end(world: World):
    made, sdp = directory(), described(world, end=int(NOW) + 10)
    made.arrived(packet(sdp), THERE, LOCAL, NOW)
    made.arrived(packet(sdp), THERE, LOCAL, NOW + 5)
    assert titles(made, NOW + 9) == ["Budget meeting"]
    assert cause_of(made, packet(sdp), NOW + 10) == "expired"
