"""Rights and access lists: what is believed of them, and by which rule somebody is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from mcsa.distribution import (
    RIGHT_FOR,
    access_list_hash,
    check_access,
    covers,
    open_right,
    parse_access_list,
    seal_access_list,
    sign_right,
    unseal_access_list,
)
from mcsa.envelope import CLOCK_SKEW
from mcsa.errors import Refused, Rejected
from mcsa.identity import Credentials
from mcsa.sealing import SealingKey
from mcsa.v1.authorizer_pb2 import AccessList, DistributionRight
from mcsa.v1.types_pb2 import POLICY_CLASS_CLOSED, POLICY_CLASS_OPEN, AccessControl, SignedStatement
from services.authorizer.rules import Resource, Rules
from tests.world import NOW, World

GROUP = bytes(16)
HOST, OTHER = "spiffe://example.org/host/alpha", "spiffe://example.org/host/beta"
ALICE, BOB = "spiffe://example.org/user/alice", "spiffe://example.org/user/bob"
WORLD = World()


def right(**changes: Any) -> DistributionRight:
    values: dict[str, Any] = {
        "group_id": GROUP,
        "distributor": HOST,
        "first_sender_id": 10,
        "sender_ids": 4,
        "expires_ms": round((NOW + RIGHT_FOR) * 1000),
    }
    return DistributionRight(**{**values, **changes})


def opened(signed: SignedStatement, now: float = NOW) -> DistributionRight:
    return open_right(signed, str(WORLD.authorizer.id), GROUP, HOST, WORLD.trust(), now)


def test_a_right_is_what_the_authorizer_signed():
    signed = sign_right(WORLD.authorizer, right())
    assert opened(signed) == right()
    assert [sender_id for sender_id in range(20) if covers(opened(signed), sender_id)] == [10, 11, 12, 13]


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"group_id": b"1" * 16}, "another group"),
        ({"distributor": OTHER}, "another host's"),
        ({"expires_ms": round((NOW - CLOCK_SKEW - 1) * 1000)}, "expired"),
        ({"expires_ms": round((NOW + RIGHT_FOR + CLOCK_SKEW + 1) * 1000)}, "too long"),
    ],
)
def test_a_right_for_another_or_for_another_time_is_none(changes: dict[str, Any], detail: str):
    with pytest.raises(Rejected, match=detail) as rejected:
        opened(sign_right(WORLD.authorizer, right(**changes)))
    assert rejected.value.cause == "right"


@pytest.mark.parametrize(
    ("signer", "cause"),
    [
        (WORLD.host("alpha"), "kind"),
        (WORLD.user("alice"), "kind"),
        (WORLD.credentials("authorizer", "other"), "right"),
        (World().authorizer, "certificate"),
    ],
    ids=["the host itself", "a user", "another Authorizer", "another domain's"],
)
def test_a_right_that_another_signed_is_none(signer: Credentials, cause: str):
    with pytest.raises(Rejected) as rejected:
        opened(sign_right(signer, right()))
    assert rejected.value.cause == cause


def test_a_right_that_was_changed_is_none():
    signed = sign_right(WORLD.authorizer, right())
    signed.statement = right(sender_ids=4000).SerializeToString()
    with pytest.raises(Rejected, match="signature"):
        opened(signed)
    malformed = WORLD.authorizer.sign_statement("mcsa distribution right v1", b"\xff")
    with pytest.raises(Rejected, match="malformed"):
        opened(malformed)


def test_an_access_list_is_the_one_that_the_right_names():
    raw = AccessList(policy_class=POLICY_CLASS_CLOSED, coordinator=ALICE).SerializeToString()
    named = right(access_list=access_list_hash(raw))
    assert parse_access_list(raw, named).coordinator == ALICE
    altered = AccessList(policy_class=POLICY_CLASS_OPEN, coordinator=ALICE).SerializeToString()
    with pytest.raises(Rejected, match="not the one") as rejected:
        parse_access_list(altered, named)
    assert rejected.value.cause == "access-list"
    with pytest.raises(Rejected, match="malformed"):
        parse_access_list(b"\xff", right(access_list=access_list_hash(b"\xff")))


def test_an_access_list_is_sealed_to_who_asked_for_it():
    key = SealingKey.generate("x25519")
    sealed = seal_access_list("x25519", key.public, b"h" * 32, b"the list")
    assert unseal_access_list(key, b"h" * 32, sealed) == b"the list"
    with pytest.raises(Rejected, match="sealing"):
        unseal_access_list(key, b"i" * 32, sealed)
    with pytest.raises(Rejected, match="suite"):
        seal_access_list("x25519", b"short", b"h" * 32, b"the list")


def lists() -> list[AccessList]:
    """Each class, with each user and host on each list or on none."""
    choices = [[], [ALICE], [BOB]], [[], [ALICE]], [[], [HOST], [OTHER]], [[], [HOST]]
    return [
        AccessList(
            policy_class=policy_class,
            coordinator=coordinator,
            access=AccessControl(
                acceptable_users=users,
                unacceptable_users=not_users,
                acceptable_hosts=hosts,
                unacceptable_hosts=not_hosts,
            ),
        )
        for policy_class in (POLICY_CLASS_OPEN, POLICY_CLASS_CLOSED)
        for coordinator in (ALICE, BOB)
        for users, not_users, hosts, not_hosts in itertools.product(*choices)
    ]


@pytest.mark.parametrize("user", [ALICE, None])
def test_a_distributor_decides_as_the_authorizers_rules_do(user: str | None):
    rules = Rules(WORLD.domain)
    outcomes = set()
    for listed in lists():
        resource = Resource("group", listed.coordinator, listed.policy_class, listed.access, str(WORLD.authorizer.id))
        principals = [HOST] if user is None else [HOST, user]
        by_rules = by_list = ""
        try:
            rules.check_all(principals, "join", resource, with_user=user is not None)
        except Refused as refused:
            by_rules = refused.rule
        try:
            check_access(listed, HOST, user)
        except Refused as refused:
            by_list = refused.rule
        assert bool(by_list) == bool(by_rules), (listed, by_rules, by_list)
        assert by_list in by_rules
        outcomes.add(by_list)
    assert len(outcomes) >= 4
