"""Sessions as an MSM lists them: whose word about whom counts."""

from __future__ import annotations

from typing import Any

from mcsa.endpoint import Answered, Failed, Request, Requested
from mcsa.errors import Refused
from mcsa.identity import Credentials
from mcsa.sap.announcement import ANNOUNCEMENT_LABEL, append_signature, split_signature
from mcsa.v1 import msm_pb2 as wire
from mcsa.v1.authorizer_pb2 import CertificateResponse
from mcsa.v1.sd_pb2 import ListResponse
from mcsa.v1.types_pb2 import SessionAnnouncement
from services.msm.announcing import Announcing, WithdrawalKey
from services.msm.gpad import Accepted, Gpad
from services.msm.sessions import Sessions
from tests.sap.parts import described, foreign
from tests.world import NOW, World, seeded


def resigned(world: World, authorizer: Credentials) -> bytes:
    """The announcement of another's conference, with mallory as its Coordinator."""
    signed, mallory = split_signature(described(world)), world.user("mallory")
    assert signed is not None
    text = signed.text.replace(str(world.user("alice").id).encode(), str(mallory.id).encode())
    text = text.replace(str(world.authorizer.id).encode(), str(authorizer.id).encode())
    return append_signature(text, mallory.sign(ANNOUNCEMENT_LABEL, text), mallory.identity.fingerprint)


def listing(world: World) -> Sessions:
    """An MSM's, that accepts any Authorizer."""
    directory = str(world.directory.id)
    announcing = Announcing(WithdrawalKey.draw(seeded(1)), directory)
    return Sessions(world.host("alpha"), world.trust(), directory, Gpad([Accepted("*", "0.0.0.0/0")]), announcing)


def listed(world: World, sessions: Sessions, *heard: bytes) -> list[wire.Session]:
    """The Authorizer "main" knows alice as the Coordinator; any other says it is mallory."""
    request = Requested("list-sessions", world.host("alpha").identity, wire.ListSessionsRequest(), "token", b"")
    (ask,) = sessions.list_sessions(request, NOW)
    answer = ListResponse(sessions=[SessionAnnouncement(sdp=sdp) for sdp in heard])
    waiting: list[Any] = sessions.answered(Answered(ask.token, answer, world.directory.identity), NOW)
    while isinstance(waiting[0], Request):
        asked = waiting.pop(0)
        authorizer = world.credentials("authorizer", asked.recipient.rsplit("/", 1)[1])
        coordinator = world.user("alice" if authorizer is world.authorizer else "mallory")
        certificates = CertificateResponse(coordinator_chain=coordinator.chain)
        waiting += sessions.answered(Answered(asked.token, certificates, authorizer.identity), NOW)
    found: wire.ListSessionsResponse = waiting[0].message
    return list(found.sessions)


def test_an_authorizer_speaks_for_its_own_conferences_only(world: World):
    other = world.credentials("authorizer", "other")
    sessions = listing(world)
    first, genuine = listed(world, sessions, resigned(world, other), described(world))
    assert first.authorizer == str(other.id) and genuine.verified
    forged, genuine = listed(world, sessions, resigned(world, world.authorizer), described(world))
    assert genuine.verified and not forged.verified
    assert forged.remark == "names another Coordinator than its Authorizer does"


def test_of_two_descriptions_that_the_coordinator_signed_the_newer_one_holds(world: World):
    """Whoever repeats the older one, and also once only that one is heard."""
    sessions = listing(world)
    older, newer = described(world, version=1), described(world, version=2)
    first, second = listed(world, sessions, older, newer)
    assert second.verified and not first.verified
    assert first.remark == "its Coordinator has announced a newer description since"
    (alone,) = listed(world, sessions, older)
    assert not alone.verified
    (again,) = listed(world, sessions, newer)
    assert again.verified and again.version == 2


def test_what_several_announce_is_one_session(world: World):
    """A host that has another address now, or who plays it again (RFC 2974, section 3)."""
    (session,) = listed(world, listing(world), described(world), described(world))
    assert session.verified


def test_bare_line_feeds_change_nothing_that_is_signed(world: World):
    """As it is said where PulseAudio and PipeWire listen."""
    (session,) = listed(world, listing(world), described(world).replace(b"\r\n", b"\n"))
    assert session.verified


def test_clashes_of_what_is_verified_are_told(world: World):
    film = foreign("a film").replace(b"239.255.7.9", b"239.255.77.2")
    ours, theirs = listed(world, listing(world), described(world), film)
    assert list(ours.clashes) == ["239.255.77.2: a film from "] and not theirs.clashes


def test_only_an_authorizer_that_has_answered_is_waited_for(world: World):
    """Anybody can announce in the name of one that isn't there; the broker says so at once."""
    sessions = listing(world)
    ghost = described(world).replace(b"authorizer/main", b"authorizer/ghost")
    request = Requested("list-sessions", world.host("alpha").identity, wire.ListSessionsRequest(), "token", b"")
    (ask,) = sessions.list_sessions(request, NOW)
    answer = ListResponse(sessions=[SessionAnnouncement(sdp=sdp) for sdp in (ghost, described(world))])
    asked = sessions.answered(Answered(ask.token, answer, world.directory.identity), NOW)
    assert [one.only_if_served for one in asked] == [True, True]
    by_name = {one.recipient.rsplit("/", 1)[1]: one for one in asked}
    chain = CertificateResponse(coordinator_chain=world.user("alice").chain)
    assert not sessions.answered(Answered(by_name["main"].token, chain, world.authorizer.identity), NOW)
    nobody = Refused("nobody-serves", "subject", "nobody serves it")
    (told,) = sessions.failed(Failed(by_name["ghost"].token, nobody), NOW)
    assert [session.verified for session in told.message.sessions] == [False, True]
    (ask,) = sessions.list_sessions(request, NOW + 1)
    other = described(world).replace(b"a=mcsa:1 00", b"a=mcsa:1 ff")
    answer = ListResponse(sessions=[SessionAnnouncement(sdp=sdp) for sdp in (ghost, other)])
    asked = sessions.answered(Answered(ask.token, answer, world.directory.identity), NOW + 1)
    by_name = {one.recipient.rsplit("/", 1)[1]: one for one in asked}
    assert by_name["ghost"].only_if_served and not by_name["main"].only_if_served


def test_addresses_in_use_are_those_that_were_heard_wide_claims_last(world: World):
    sessions, found = listing(world), list[list[str]]()

    def take(addresses: list[str]) -> list[Any]:
        found.append(addresses)
        return []

    wide = foreign("wide", session=2).replace(b"239.255.7.9/5", b"239.255.0.0/5/64")
    (ask,) = sessions.find_in_use(take, None)
    heard = [wide, foreign(), described(world), b"v=0\r\n"]
    answer = ListResponse(sessions=[SessionAnnouncement(sdp=sdp) for sdp in heard])
    assert sessions.answered(Answered(ask.token, answer, world.directory.identity), NOW) == []
    assert found[0][:3] == ["239.255.7.9", "239.255.77.1", "239.255.77.2"] and len(found[0]) == 3 + 64
    (ask,) = sessions.find_in_use(take, None)
    assert ask.only_if_served
    sessions.failed(Failed(ask.token, Refused("nobody-serves", "subject", "nobody")), NOW)
    assert found[1] == []
