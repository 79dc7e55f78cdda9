"""Two sessions at one address: which of them has to move."""

from __future__ import annotations

import pytest

from mcsa.v1.types_pb2 import SessionAnnouncement
from services.msm.clashes import AT_ONCE, MOVES, STAYS, worst_clash
from tests.sap.parts import described, foreign
from tests.world import NOW, World

FILM = foreign("a film").replace(b"239.255.7.9", b"239.255.77.1")


def heard(sdp: bytes, after: float) -> SessionAnnouncement:
    return SessionAnnouncement(sdp=sdp, source="192.0.2.9", first_heard_ms=round((NOW + after) * 1000))


@pytest.mark.parametrize(
    ("after", "change"),
    [(-100.0, MOVES), (-AT_ONCE, MOVES), (-1.0, MOVES), (1.0, MOVES), (AT_ONCE, STAYS), (100.0, STAYS)],
)
def test_who_was_there_first_stays_and_at_once_the_one_with_rules_goes(world: World, after: float, change: str):
    told = "239.255.77.1 is also used by 'a film' from 192.0.2.9"
    assert worst_clash(described(world), [heard(FILM, after)], NOW) == (change, told)


def test_of_two_with_the_same_rules_exactly_one_moves(world: World):
    ours = described(world)
    other = ours.replace(b"o=- ", b"o=- 9")
    assert worst_clash(ours, [heard(other, 0.0)], NOW)[0] != worst_clash(other, [heard(ours, 0.0)], NOW)[0]


def test_the_worst_is_told(world: World):
    at_another = foreign("elsewhere").replace(b"239.255.7.9", b"239.255.76.1")
    assert worst_clash(described(world), [heard(at_another, -50.0)], NOW) == (STAYS, "")
    at_ours = foreign("later").replace(b"239.255.7.9", b"239.255.77.1")
    later, earlier = heard(at_ours, 50.0), heard(FILM, -50.0)
    for clashes in ([later, earlier], [earlier, later], [heard(b"v=0", 0.0), later, earlier]):
        change, remark = worst_clash(described(world), clashes, NOW)
        assert change == MOVES and "a film" in remark
    assert worst_clash(described(world), [], NOW) == (STAYS, "")
    assert worst_clash(described(world), [heard(b"v=0", -50.0)], NOW) == (STAYS, "")
