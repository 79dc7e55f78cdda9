"""What a CSM makes of users of peer domains, and of conferences that are at home elsewhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mcsa.conference_id import CONFERENCE_LABEL, conference_id_of, group_id_of
from mcsa.errors import Refused
from mcsa.identity import Credentials
from mcsa.v1.types_pb2 import (
    POLICY_CLASS_CLOSED,
    POLICY_CLASS_OPEN,
    AccessControl,
    ConferenceDescription,
    GroupDescription,
)
from services.csm.coordination import Coordination
from services.csm.terms import Terms, open_terms
from tests.world import NOW, World


def terms_of(
    coordinator: Credentials, reader: World, policy_class: int = POLICY_CLASS_CLOSED, authorizer: str = ""
) -> Terms:
    description = ConferenceDescription(
        coordinator=str(coordinator.id),
        policy_class=policy_class,  # type: ignore[arg-type]
        groups=[GroupDescription(name="control")],
        authorizer=authorizer or "spiffe://a.example/authorizer/main",
    )
    statement = coordinator.sign_statement(CONFERENCE_LABEL, description.SerializeToString())
    conference_id = conference_id_of(str(coordinator.id), statement.statement)
    groups = [GroupDescription(group_id=group_id_of(conference_id, 0), name="control")]
    return open_terms(statement, groups, conference_id, reader.trust(), NOW)


@pytest.fixture
def worlds() -> tuple[World, World]:
    """A, and B that has A as a peer."""
    a, b = World("a.example"), World("b.example")
    b.peers.append(a)
    return a, b


def test_a_coordinator_of_a_peer_is_believed_and_of_another_domain_is_not(worlds: tuple[World, World]) -> None:
    a, b = worlds
    assert terms_of(a.user("alice"), b).coordinator == "spiffe://a.example/user/alice"
    with pytest.raises(Refused) as refused:
        terms_of(World("c.example").user("carol"), b)
    assert refused.value.rule == "certificate"
    with pytest.raises(Refused) as refused:
        terms_of(b.user("bob"), a)
    assert refused.value.rule == "certificate"


def test_a_description_that_names_no_authorizer_is_refused(worlds: tuple[World, World]) -> None:
    a, _ = worlds
    with pytest.raises(Refused) as refused:
        terms_of(a.user("alice"), a, authorizer="main")
    assert refused.value.rule == "name"


def coordination(terms: Terms, *acceptable: str) -> Coordination:
    participant: Any = SimpleNamespace(name=terms.coordinator, terms=terms)
    return Coordination(participant, AccessControl(acceptable_users=acceptable))


def test_an_open_conference_is_open_to_users_of_its_own_domain(worlds: tuple[World, World]) -> None:
    """Whatever the Authorizer admits: the Coordinator has its own rule."""
    a, _ = worlds
    named = "spiffe://b.example/user/bob"
    of_open = coordination(terms_of(a.user("alice"), a, POLICY_CLASS_OPEN), named)
    assert of_open.allows("spiffe://a.example/user/zoe")
    assert of_open.allows(named)
    for other in ("spiffe://b.example/user/bela", "spiffe://a.example.b.example/user/zoe", "zoe", ""):
        assert not of_open.allows(other)
    assert not coordination(terms_of(a.user("alice"), a), named).allows("spiffe://a.example/user/zoe")
