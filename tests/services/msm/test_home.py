"""The Authorizer that a conference is at home at, where another serves this host: what must not be mixed up."""

from __future__ import annotations

import pytest

from mcsa.errors import Rejected
from mcsa.gkm import scheme_named
from mcsa.v1.authorizer_pb2 import CreateResponse, GroupSecurityAssociation
from mcsa.v1.types_pb2 import ConferenceDescription, GroupDescription, SignedStatement
from services.msm.gpad import Accepted, Gpad
from services.msm.membership import Membership
from services.msm.sessions import Sessions
from tests.world import NOW, World, seeded

A, Y = "spiffe://a.example/authorizer/main", "spiffe://b.example/authorizer/main"


def test_an_address_that_another_would_serve_is_not_what_was_asked_for(world: World):
    lines = [Accepted(A, "239.1.0.0/16", Y), Accepted(A, "239.2.0.0/16")]
    sessions = Sessions(world.host("alpha"), world.trust(), seeded(1), str(world.directory.id), Gpad(lines))
    description = ConferenceDescription(title="t", authorizer=A)
    for address, said in (("239.2.0.1", "is not for"), ("239.3.0.1", "accepts no keys")):
        created = CreateResponse(conference_id=bytes(16), groups=[GroupDescription(address=address)])
        with pytest.raises(Rejected, match=said) as rejected:
            sessions.created(description, Y, created, "198.51.100.2", NOW)
        assert rejected.value.cause == "gpad"
    created = CreateResponse(conference_id=bytes(16), groups=[GroupDescription(address="239.1.0.1")])
    assert sessions.created(description, Y, created, "198.51.100.2", NOW).groups == created.groups


@pytest.mark.parametrize("statement", [ConferenceDescription(authorizer=Y).SerializeToString(), b"", b"\xff"])
def test_an_association_without_the_announced_home_is_refused(world: World, statement: bytes):
    group = GroupDescription(group_id=bytes(16), address="239.1.0.1", port=1)
    group.policy.gkm = "gkmp"
    membership = Membership(group, Y, A, bytes(16), str(world.host("alpha").id), world.trust(), seeded(1))
    gsa = GroupSecurityAssociation(
        group=group, conference_id=bytes(16), description=SignedStatement(statement=statement), epoch=1
    )
    with pytest.raises(Rejected) as rejected:
        membership.install(scheme_named("gkmp").begin(seeded(2)), gsa, NOW)
    assert rejected.value.cause == "association" and not membership.epochs
