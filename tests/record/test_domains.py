"""Records of conferences that two domains held: whose word counts, and for whom."""

from __future__ import annotations

import pytest

from mcsa.errors import Rejected
from mcsa.record.findings import Findings
from mcsa.record.verify import verify_record
from tests.record.parts import Conference
from tests.world import World


def worlds() -> tuple[World, World, World]:
    """A, where conferences are at home, and its peers."""
    a, b, c = World("a.example"), World("b.example"), World("c.example")
    a.peers += [b, c]
    return a, b, c


def held(a: World, b: World, writer: str = "bob") -> Conference:
    """Alice and Carol of A with Bob of B; not yet countersigned."""
    one = Conference(a, writer, abroad={"bob": b})
    one.introduce("alice", "bob", "carol")
    one.key("alice", "bob", "carol")
    one.receipt("bob", one.seal("carol"))
    one.eject("carol")
    one.key("alice", "bob")
    one.close()
    return one


def rejected(one: Conference, world: World) -> Rejected:
    with pytest.raises(Rejected) as caught:
        verify_record(one.writer.serialised(), world.trust())
    return caught.value


def found(one: Conference, world: World) -> Findings:
    return verify_record(one.writer.serialised(), world.trust())


def test_a_participant_of_a_peer_domain_has_its_record_countersigned_by_its_own_authorizer() -> None:
    a, b, _ = worlds()
    one = held(a, b)
    one.countersign(b.authorizer, host=str(b.host("beta").id))
    proven = found(one, a)
    assert proven.complete and proven.countersigned
    assert proven.writer == str(b.user("bob").id) and proven.authorizer == str(a.authorizer.id)
    assert proven.countersigned_by == str(b.authorizer.id)
    assert {participated.user for participated in proven.participants} == {
        str(user.id) for user in (a.user("alice"), b.user("bob"), a.user("carol"))
    }


def test_or_by_the_authorizer_that_the_conference_is_at_home_at() -> None:
    a, b, _ = worlds()
    one = held(a, b)
    one.countersign(a.authorizer)
    assert found(one, a).countersigned_by == str(a.authorizer.id)


def test_whose_domain_is_the_reader_s_own_makes_no_difference() -> None:
    a, b, _ = worlds()
    b.peers.append(a)
    one = held(a, b)
    one.countersign(b.authorizer)
    assert found(one, b) == found(one, a)


def test_an_authorizer_of_a_third_domain_countersigns_nothing() -> None:
    a, b, c = worlds()
    one = held(a, b)
    one.countersign(c.authorizer)
    assert rejected(one, a).cause == "countersignature"


def test_a_peers_authorizer_countersigns_no_record_of_a_participant_of_the_conferences_own_domain() -> None:
    a, b, _ = worlds()
    one = held(a, b, writer="alice")
    one.countersign(b.authorizer)
    assert rejected(one, a).cause == "countersignature"


def test_another_authorizer_of_the_conferences_own_domain_countersigns_nothing() -> None:
    a, b, _ = worlds()
    one = held(a, b)
    one.countersign(a.credentials("authorizer", "other"))
    assert rejected(one, a).cause == "countersignature"


def test_a_peers_host_or_user_countersigns_nothing() -> None:
    a, b, _ = worlds()
    for signer in (b.host("main"), b.user("bob")):
        one = held(a, b)
        one.countersign(signer)
        assert rejected(one, a).cause == "kind"


def test_without_the_peers_anchors_its_participants_prove_nothing() -> None:
    a, b, _ = worlds()
    one = held(a, b)
    one.countersign(b.authorizer)
    a.peers.clear()
    refused = rejected(one, a)
    assert refused.cause == "certificate" and "entry 3" in (refused.detail or "")
