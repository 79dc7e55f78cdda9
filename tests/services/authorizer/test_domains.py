"""What the Authorizer lets users and hosts of peer domains do, rule by rule, and what it never does."""

from __future__ import annotations

from typing import Any

import pytest

from mcsa import subjects
from mcsa.endpoint import Endpoint
from mcsa.envelope import sign_envelope
from mcsa.identity import Credentials
from mcsa.registration import sign_user_statement
from mcsa.v1 import authorizer_pb2 as wire
from mcsa.v1.types_pb2 import (
    POLICY_CLASS_CLOSED,
    POLICY_CLASS_OPEN,
    AccessControl,
    ConferenceDescription,
    GroupDescription,
)
from services.authorizer.rules import Resource, Rules
from tests.services.authorizer.test_core import Desk, refused
from tests.world import NOW, World, seeded

ALICE, ADA = "spiffe://a.example/user/alice", "spiffe://a.example/user/ada"
BOB, BELA = "spiffe://b.example/user/bob", "spiffe://b.example/user/bela"
HOST_A, HOST_B = "spiffe://a.example/host/alpha", "spiffe://b.example/host/beta"
AT_A, AT_B = Rules("a.example"), Rules("b.example")


def conference(policy_class: int = POLICY_CLASS_CLOSED, coordinator: str = ALICE, **access: list[str]) -> Resource:
    """Alice's, at home at the Authorizer of A; Bob of B is on her list."""
    listed = AccessControl(**({"acceptable_users": [BOB]} | access))
    return Resource("r", coordinator, policy_class, listed, "spiffe://a.example/authorizer/main")


OPEN = conference(POLICY_CLASS_OPEN)


# ---- the rules


def test_convening_is_for_users_of_the_own_domain() -> None:
    assert AT_A.check(ALICE, "create", conference()) == "any-user-may-convene"
    refusal = refused(AT_A.check, BOB, "create", conference())
    assert refusal.rule == "users-of-peers-convene-at-home"
    assert "convene at that domain's own Authorizer" in refusal.sentence


@pytest.mark.parametrize("rules", [AT_A, AT_B])
def test_a_peers_user_joins_where_the_coordinator_named_it(rules: Rules) -> None:
    assert rules.check(BOB, "join", conference()) == "user-of-a-peer-may-join-where-named"
    assert rules.check(BOB, "join", OPEN) == "user-of-a-peer-may-join-where-named"
    assert rules.check(BOB, "join", conference(coordinator=BOB, acceptable_users=[])).startswith("user-of-a-peer")


@pytest.mark.parametrize("rules", [AT_A, AT_B])
def test_an_open_conference_is_open_to_its_own_domain_only(rules: Rules) -> None:
    """Also where B's Authorizer serves it: open means to users of A."""
    assert rules.check(ADA, "join", OPEN) == "verified-user-may-join"
    refusal = refused(rules.check, BELA, "join", OPEN)
    assert refusal.rule == "users-of-peers-by-name-only" and "of another domain" in refusal.sentence


def test_a_closed_conference_says_both_to_a_peers_user() -> None:
    refusal = refused(AT_A.check, BELA, "join", conference())
    assert refusal.rule == "closed-group-admits-acceptable-users-only, users-of-peers-by-name-only"
    assert refusal.sentence.count(BELA) == 2


def test_a_name_without_its_domain_on_the_list_is_nobodys() -> None:
    listed = conference(POLICY_CLASS_OPEN, acceptable_users=["bela", "spiffe://a.example/user/bela"])
    assert refused(AT_A.check, BELA, "join", listed).rule == "users-of-peers-by-name-only"


def test_a_peers_user_that_may_not_join_may_not_though_it_is_named() -> None:
    listed = conference(unacceptable_users=[BOB])
    assert refused(AT_A.check, BOB, "join", listed).rule == "unacceptable-user"


def test_hosts_are_taken_in_by_their_own_domains_authorizer_only() -> None:
    assert AT_A.check(HOST_A, "join", OPEN) == AT_B.check(HOST_B, "join", OPEN) == "host-of-the-domain-may-join"
    assert refused(AT_A.check, HOST_B, "join", OPEN).rule == "hosts-of-peers-register-at-home"
    assert refused(AT_B.check, HOST_A, "join", OPEN).rule == "hosts-of-peers-register-at-home"
    listed = conference(POLICY_CLASS_OPEN, acceptable_hosts=[HOST_B])
    assert refused(AT_A.check, HOST_B, "join", listed).rule == "hosts-of-peers-register-at-home"


def test_a_peers_user_evicts_where_it_is_the_coordinator_only() -> None:
    assert AT_A.check(BOB, "evict", conference(coordinator=BOB)) == "coordinator-evicts"
    assert refused(AT_A.check, BOB, "evict", conference()).rule == "nothing-permits-it"


# ---- the Authorizer


class TwoDomainDesk(Desk):
    """An Authorizer of A that knows B as a peer."""

    def __init__(self) -> None:
        world = World("a.example")
        self.peer = World("b.example")
        world.peers.append(self.peer)
        super().__init__(world)

    def convene(self, policy_class: int = POLICY_CLASS_CLOSED, *acceptable: Credentials) -> bytes:
        """A conference of Alice's; its group's id."""
        access = AccessControl(acceptable_users=[str(user.id) for user in acceptable])
        signed = self.describe(self.world.user("alice"), policy_class)
        group: bytes = self.ask("create", wire.CreateRequest(description=signed, access=access)).groups[0].group_id
        return group

    def describe(self, coordinator: Credentials, policy_class: int = POLICY_CLASS_CLOSED) -> Any:
        description = ConferenceDescription(
            coordinator=str(coordinator.id),
            policy_class=policy_class,  # type: ignore[arg-type]
            groups=[GroupDescription(name="control", port=5004)],
            authorizer=str(self.world.authorizer.id),
            nonce=bytes(16),
        )
        return coordinator.sign_statement("mcsa conference v1", description.SerializeToString())

    def request_of(self, user: Credentials, group_id: bytes) -> wire.RegisterRequest:
        """Host beta of A asks for a user, of whichever domain."""
        request = self.request(group_id)
        request.user_statement.CopyFrom(sign_user_statement(user, request.user_statement.statement))
        return request


@pytest.fixture
def desk() -> TwoDomainDesk:
    return TwoDomainDesk()


def test_a_peers_user_convenes_nothing_here(desk: TwoDomainDesk) -> None:
    asked = wire.CreateRequest(description=desk.describe(desk.peer.user("bob")))
    assert refused(desk.ask, "create", asked).rule == "users-of-peers-convene-at-home"
    assert not desk.core.conferences


def test_a_user_of_a_domain_that_is_no_peer_is_nobody(desk: TwoDomainDesk) -> None:
    stranger = World("c.example").user("carol")
    assert refused(desk.ask, "create", wire.CreateRequest(description=desk.describe(stranger))).rule == "certificate"
    request = desk.request_of(stranger, desk.convene(POLICY_CLASS_CLOSED, stranger))
    assert refused(desk.ask, "register", request, desk.world.host("beta")).rule == "user-statement.certificate"


def test_a_peers_user_on_a_host_of_ours_is_admitted_where_it_is_named(desk: TwoDomainDesk) -> None:
    bob, host = desk.peer.user("bob"), desk.world.host("beta")
    group_id = desk.convene(POLICY_CLASS_CLOSED, bob)
    desk.ask("register", desk.request_of(bob, group_id), host)
    assert list(desk.core.groups[group_id].roster[2].users) == [str(bob.id)]
    request = desk.request_of(desk.peer.user("bela"), group_id)
    assert "users-of-peers-by-name-only" in refused(desk.ask, "register", request, host).rule


def test_an_open_group_is_not_open_to_a_peers_user(desk: TwoDomainDesk) -> None:
    group_id = desk.convene(POLICY_CLASS_OPEN)
    request = desk.request_of(desk.peer.user("bob"), group_id)
    assert refused(desk.ask, "register", request, desk.world.host("beta")).rule == "users-of-peers-by-name-only"
    desk.ask("register", desk.request_of(desk.world.user("zoe"), group_id), desk.world.host("beta"))


def test_a_peers_namesake_is_another(desk: TwoDomainDesk) -> None:
    group_id = desk.convene(POLICY_CLASS_CLOSED, desk.world.user("bob"))
    request = desk.request_of(desk.peer.user("bob"), group_id)
    assert "users-of-peers-by-name-only" in refused(desk.ask, "register", request, desk.world.host("beta")).rule


def test_a_peers_user_ejects_nobody(desk: TwoDomainDesk) -> None:
    desk.convene()
    (conference_id,) = desk.core.conferences
    eviction = wire.Eviction(conference_id=conference_id, subject=ADA, time_ms=round(NOW * 1000))
    signed = desk.peer.user("bob").sign_statement("mcsa eviction v1", eviction.SerializeToString())
    assert refused(desk.ask, "evict", wire.EvictRequest(eviction=signed)).rule == "nothing-permits-it"


def test_a_peers_host_that_got_this_far_is_refused_all_the_same(desk: TwoDomainDesk) -> None:
    bob, host = desk.peer.user("bob"), desk.peer.host("beta")
    request = desk.request_of(bob, desk.convene(POLICY_CLASS_CLOSED, bob))
    statement = wire.UserStatement.FromString(request.user_statement.statement)
    statement.host = str(host.id)
    request.user_statement.CopyFrom(sign_user_statement(bob, statement.SerializeToString()))
    assert refused(desk.ask, "register", request, host).rule == "hosts-of-peers-register-at-home"


class _Nobody:
    """A core that must not be reached."""

    def handle(self, event: Any, now: float) -> list[Any]:
        raise AssertionError(event)

    def wake_at(self) -> float | None:
        return None

    def reauthorise(self, request: Any, now: float) -> None:
        raise AssertionError(request)


@pytest.mark.parametrize(
    ("service", "verb", "kind"),
    [
        (subjects.AUTHORIZER, "register", "host"),
        (subjects.AUTHORIZER, "register", "authorizer"),
        (subjects.SD, "list", "host"),
        (subjects.MSM, "join-group", "host"),
    ],
)
def test_who_calls_from_a_peer_domain_gets_no_answer_and_is_counted(
    desk: TwoDomainDesk, service: str, verb: str, kind: str
) -> None:
    caller, own = desk.peer.credentials(kind, "beta"), desk.world.authorizer
    endpoint = Endpoint(service, own.id.token, own, desk.world.trust(), _Nobody(), seeded(1))
    message = subjects.SERVICES[service][verb].request()
    raw, _ = sign_envelope(caller, message, str(own.id), bytes(16), NOW + 10)
    assert endpoint.request_arrived(subjects.subject(service, "beta", verb), raw, None, NOW) == []
    assert endpoint.counters == {"rejected.certificate": 1}


def test_a_peers_authorizer_has_a_place_that_lets_it_in_and_nobody_else(desk: TwoDomainDesk) -> None:
    own, reached = desk.world.authorizer, []
    core = _Nobody()
    core.handle = lambda event, now: reached.append(event) or []  # type: ignore[method-assign,func-returns-value]
    endpoint = Endpoint(subjects.AUTHORIZER, "main", own, desk.world.trust(), core, seeded(1))
    endpoint.peer_callers = {"b.example": ["authorizer"]}
    for kind in ("authorizer", "host"):
        caller = desk.peer.credentials(kind, "main")
        raw, _ = sign_envelope(caller, wire.RegisterRequest(), str(own.id), bytes(16), NOW + 10)
        endpoint.request_arrived(subjects.subject(subjects.AUTHORIZER, "main", "register"), raw, None, NOW)
    assert [str(event.caller.id) for event in reached] == ["spiffe://b.example/authorizer/main"]
    assert endpoint.counters == {"rejected.kind": 1}
