"""The Authorizer that a conference is at home at, where another serves this host: what must not be mixed up."""

from __future__ import annotations

import pytest

from mcsa.endpoint import Refuse
from mcsa.errors import Rejected
from mcsa.gkm import scheme_named
from mcsa.membership import Membership
from mcsa.networks import Networks
from mcsa.sealing import SealingKey
from mcsa.v1.authorizer_pb2 import CreateResponse, GroupSecurityAssociation
from mcsa.v1.msm_pb2 import JoinGroupRequest
from mcsa.v1.types_pb2 import ConferenceDescription, GroupDescription, SignedStatement
from services.msm.announcing import Announcing, WithdrawalKey
from services.msm.core import MsmCore
from services.msm.core_groups import Settings
from services.msm.core_joining import Join
from services.msm.events import OpenGroup
from services.msm.gpad import Accepted, Gpad
from services.msm.sessions import Sessions
from tests.world import NOW, World, seeded

A, Y = "spiffe://a.example/authorizer/main", "spiffe://b.example/authorizer/main"


def test_a_subgroup_at_an_address_that_another_would_serve_is_refused(world: World):
    lines = [Accepted(A, "239.1.0.0/16", Y), Accepted(A, "239.2.0.0/16")]
    core = MsmCore(world.host("alpha"), world.trust(), seeded(1), Settings(Networks.only("198.51.100.2"), "sd", lines))
    backbone = GroupDescription(group_id=bytes(16), address="239.1.0.1", port=1)
    backbone.policy.gkm = "iolus"
    membership = Membership(backbone, Y, A, bytes(16), str(world.host("alpha").id), world.trust(), seeded(1))
    join = Join("token", JoinGroupRequest(), SealingKey.generate("x25519"))
    for address, outcome in (("239.2.0.1", "refused"), ("239.1.0.2", "opened")):
        membership.group, membership.state = backbone, "registering"
        core.memberships, core._joins = {bytes(16): membership}, {bytes(16): join}
        subgroup = GroupDescription(group_id=bytes([1] * 16), address=address, port=1)
        described = SignedStatement(statement=ConferenceDescription(authorizer=A).SerializeToString())
        gsa = GroupSecurityAssociation(group=subgroup, backbone=backbone, conference_id=bytes(16), epoch=1)
        gsa.description.CopyFrom(described)
        effects = core._enter_subgroup(join, membership, gsa, NOW)
        if outcome == "opened":
            assert effects == [OpenGroup("a.example", subgroup)]
        else:
            (refusal,) = [effect.refusal for effect in effects if isinstance(effect, Refuse)]
            assert refusal.code == "association" and "another Authorizer's to key here" in refusal.sentence


def audio(address: str) -> GroupDescription:
    return GroupDescription(name="g", media="audio", address=address)


def test_an_address_that_another_would_serve_is_not_what_was_asked_for(world: World):
    lines = [Accepted(A, "239.1.0.0/16", Y), Accepted(A, "239.2.0.0/16")]
    directory = str(world.directory.id)
    announcing = Announcing(WithdrawalKey.draw(seeded(1)), directory)
    sessions = Sessions(world.host("alpha"), world.trust(), directory, Gpad(lines), announcing)
    description = ConferenceDescription(title="t", authorizer=A)
    for address, said in (("239.2.0.1", "is not for"), ("239.3.0.1", "accepts no keys")):
        created = CreateResponse(
            conference_id=bytes(16), groups=[GroupDescription(name="g", media="audio", address=address)]
        )
        with pytest.raises(Rejected, match=said) as rejected:
            sessions.created(description, Y, created, "198.51.100.2", NOW)
        assert rejected.value.cause == "gpad"
    created = CreateResponse(
        conference_id=bytes(16), groups=[GroupDescription(name="g", media="audio", address="239.1.0.1")]
    )
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
