"""Sessions as an MSM lists them: whose word about whom counts."""

from __future__ import annotations

from typing import Any

from mcsa.endpoint import Answered, Request, Requested
from mcsa.identity import Credentials
from mcsa.sap.announcement import ANNOUNCEMENT_LABEL, append_signature, split_signature
from mcsa.v1 import msm_pb2 as wire
from mcsa.v1.authorizer_pb2 import CertificateResponse
from mcsa.v1.sd_pb2 import ListResponse
from mcsa.v1.types_pb2 import SessionAnnouncement
from services.msm.gpad import Accepted, Gpad
from services.msm.sessions import Sessions
from tests.sap.parts import described
from tests.world import NOW, World, seeded


def resigned(world: World, authorizer: Credentials) -> bytes:
    """The announcement of another's conference, with mallory as its Coordinator."""
    signed, mallory = split_signature(described(world)), world.user("mallory")
    assert signed is not None
    text = signed.text.replace(str(world.user("alice").id).encode(), str(mallory.id).encode())
    text = text.replace(str(world.authorizer.id).encode(), str(authorizer.id).encode())
    return append_signature(text, mallory.sign(ANNOUNCEMENT_LABEL, text), mallory.identity.fingerprint)


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
    sessions = Sessions(
        world.host("alpha"), world.trust(), seeded(1), str(world.directory.id), Gpad([Accepted("*", "0.0.0.0/0")])
    )
    first, genuine = listed(world, sessions, resigned(world, other), described(world))
    assert first.authorizer == str(other.id) and genuine.verified
    forged, genuine = listed(world, sessions, resigned(world, world.authorizer), described(world))
    assert genuine.verified and not forged.verified
    assert forged.remark == "names another Coordinator than its Authorizer does"
