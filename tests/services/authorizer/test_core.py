"""What the Authorizer refuses, each with its code and its rule."""

from __future__ import annotations

from typing import Any

import pytest

from mcsa.endpoint import Answer, Refuse, Requested, Woken
from mcsa.envelope import payload_hash
from mcsa.errors import Refused
from mcsa.gkm import scheme_named
from mcsa.identity import Credentials
from mcsa.policy import DEFAULTS, complete_policy
from mcsa.registration import open_association, sign_user_statement
from mcsa.sealing import SealingKey
from mcsa.source_authentication import SourceKey
from mcsa.v1 import authorizer_pb2 as wire
from mcsa.v1.types_pb2 import (
    POLICY_CLASS_CLOSED,
    AccessControl,
    ConferenceDescription,
    GroupDescription,
    GroupPolicy,
    SignedStatement,
)
from services.authorizer import core
from services.authorizer.core import AuthorizerCore, Settings
from services.authorizer.events import Append, Appended, DropSender, EndLog
from services.authorizer.rules import Resource, Rules
from tests.services.authorizer.parts import address_of
from tests.world import NOW, World, seeded


class Desk:
    """An Authorizer's core and somebody who asks it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.core = AuthorizerCore(world.authorizer, world.trust(), seeded(1), Settings())
        self.effects: list[Any] = []

    def ask(self, verb: str, message: Any, caller: Credentials | None = None, now: float = NOW) -> Any:
        """The answer; raises what was refused."""
        who = (caller or self.world.host("alpha")).identity
        self.request_hash = payload_hash(message)
        effects = self.stored(self.core.handle(Requested(verb, who, message, "token", self.request_hash), now), now)
        while self.core.wake_at() is not None and not any(isinstance(e, Answer | Refuse) for e in effects):
            now = max(now, self.core.wake_at() or now)
            effects += self.stored(self.core.handle(Woken(), now), now)
        self.effects += effects
        outcome = next(effect for effect in effects if isinstance(effect, Answer | Refuse))
        if isinstance(outcome, Refuse):
            raise outcome.refusal
        return outcome.message

    def stored(self, effects: list[Any], now: float) -> list[Any]:
        """These and those that follow, where the store takes whatever it is given."""
        for effect in effects:
            if isinstance(effect, Append):
                effects += self.core.handle(Appended(effect.log), now)
        return effects

    def create(self, **changes: Any) -> Any:
        access = AccessControl(acceptable_users=[str(self.world.user("bob").id)])
        return self.ask("create", wire.CreateRequest(description=self.signed(**changes), access=access))

    def signed(self, **changes: Any) -> SignedStatement:
        """A description of a conference, signed by its Coordinator."""
        description = ConferenceDescription(
            title="t",
            coordinator=str(self.world.user("alice").id),
            policy_class=POLICY_CLASS_CLOSED,
            groups=[
                GroupDescription(
                    name="control", port=5004, policy=changes.pop("policy", None), address=changes.pop("address", "")
                )
            ],
            authorizer=str(self.world.authorizer.id),
            nonce=bytes(16),
        )
        signer = changes.pop("signer", self.world.user("alice"))
        for name, value in changes.items():
            if isinstance(value, list):
                description.ClearField(name)  # type: ignore[arg-type]
                getattr(description, name).extend(value)
            else:
                setattr(description, name, value)
        statement = signer.sign_statement("mcsa conference v1", description.SerializeToString())
        assert isinstance(statement, SignedStatement)
        return statement

    def request(self, group_id: bytes, user: str = "bob", host: str = "beta", **changes: Any) -> wire.RegisterRequest:
        key = SealingKey.generate(changes.pop("suite", "x25519"))
        self.key = key
        statement = wire.UserStatement(
            host=str(self.world.host(host).id),
            hpke_public_key=key.public,
            group_id=group_id,
            authorizer=str(self.world.authorizer.id),
            nonce=bytes(16),
            expires_ms=int((NOW + 30) * 1000),
        )
        for name, value in changes.items():
            setattr(statement, name, value)
        self.joining = scheme_named(DEFAULTS.gkm).begin(seeded(5))
        return wire.RegisterRequest(
            group_id=group_id,
            hpke_public_key=key.public,
            hpke_suite=key.suite,
            user_statement=sign_user_statement(self.world.user(user), statement.SerializeToString()),
            sender=True,
            address=address_of(host),
            gkm_contribution=self.joining.contribution,
        )


@pytest.fixture
def desk(world: World) -> Desk:
    return Desk(world)


@pytest.fixture
def group_id(desk: Desk) -> bytes:
    group: bytes = desk.create().groups[0].group_id
    return group


def refused(call: Any, *args: Any, **more: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        call(*args, **more)
    assert len(caught.value.sentence) > 20
    return caught.value


def test_a_registration_is_answered_with_a_sealed_association(desk: Desk, group_id: bytes):
    response = desk.ask("register", desk.request(group_id), desk.world.host("beta"))
    gsa = open_association(desk.key, desk.request_hash, response.sealed_gsa)
    assert gsa.group.group_id == group_id
    assert gsa.sender_id == 2
    assert [entry.sender_id for entry in gsa.roster] == [1, 2]
    assert gsa.epoch == desk.core.groups[group_id].epoch
    assert desk.joining.finish(gsa.gkm_welcome).key == desk.core.groups[group_id].key


def test_post_quantum_where_the_policy_asks_for_it(desk: Desk):
    group_id = desk.create(policy=GroupPolicy(hpke="x-wing")).groups[0].group_id
    assert refused(desk.ask, "register", desk.request(group_id), desk.world.host("beta")).rule == "group-policy.hpke"
    response = desk.ask("register", desk.request(group_id, suite="x-wing"), desk.world.host("beta"))
    assert open_association(desk.key, desk.request_hash, response.sealed_gsa).sender_id == 2


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"host": "spiffe://example.org/host/gamma"}, "user-statement.host"),
        ({"hpke_public_key": bytes(32)}, "user-statement.hpke-key"),
        ({"group_id": bytes(16)}, "user-statement.group"),
        ({"authorizer": "spiffe://example.org/authorizer/other"}, "user-statement.authorizer"),
        ({"expires_ms": int((NOW - 31) * 1000)}, "user-statement.expired"),
        ({"expires_ms": int((NOW + 3600) * 1000)}, "user-statement.expiry"),
    ],
)
def test_a_host_can_not_claim_a_user(desk: Desk, group_id: bytes, changes: dict[str, Any], rule: str):
    request = desk.request(group_id)
    signed = desk.request(group_id)
    statement = wire.UserStatement.FromString(signed.user_statement.statement)
    statement.hpke_public_key = request.hpke_public_key
    for name, value in changes.items():
        setattr(statement, name, value)
    request.user_statement.CopyFrom(sign_user_statement(desk.world.user("bob"), statement.SerializeToString()))
    assert refused(desk.ask, "register", request, desk.world.host("beta")).rule == rule


def test_a_statement_signed_by_another_than_it_seems(desk: Desk, group_id: bytes):
    request = desk.request(group_id)
    request.user_statement.signature = bytes(64)
    assert refused(desk.ask, "register", request, desk.world.host("beta")).rule == "user-statement.signature"
    request = desk.request(group_id)
    request.user_statement.ClearField("certificate_chain")
    assert refused(desk.ask, "register", request, desk.world.host("beta")).rule == "user-statement.certificate"
    request = desk.request(group_id)
    request.user_statement.certificate_chain[0] = World().user("bob").chain[0]
    assert refused(desk.ask, "register", request, desk.world.host("beta")).rule == "user-statement.certificate"


def test_a_host_alone_is_not_admitted_to_a_closed_group(desk: Desk, group_id: bytes):
    request = desk.request(group_id)
    request.ClearField("user_statement")
    assert refused(desk.ask, "register", request, desk.world.host("beta")).rule == "closed-group-needs-a-user"


def test_key_material_that_can_not_be_used(desk: Desk, group_id: bytes):
    request = desk.request(group_id)
    request.gkm_contribution = b"short"
    assert refused(desk.ask, "register", request, desk.world.host("beta")).code == "key-material"
    before = desk.core.groups[group_id].epoch
    assert not len(desk.core.groups[group_id].members)
    assert desk.core.groups[group_id].epoch == before


def test_an_unknown_group(desk: Desk):
    assert refused(desk.ask, "register", desk.request(bytes(16)), desk.world.host("beta")).code == "unknown-group"


def test_a_malformed_address(desk: Desk, group_id: bytes):
    request = desk.request(group_id)
    request.address = "here"
    assert refused(desk.ask, "register", request, desk.world.host("beta")).rule == "source-address"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"coordinator": "spiffe://example.org/user/bob"}, "coordinator"),
        ({"authorizer": "spiffe://example.org/authorizer/other"}, "authorizer"),
        ({"end_s": int(NOW) - 1}, "end"),
        ({"groups": []}, "groups"),
        ({"groups": [GroupDescription(name=str(n)) for n in range(17)]}, "groups"),
        ({"address": "10.0.0.1"}, "RFC 5771"),
        ({"address": "nonsense"}, "malformed"),
        ({"policy": GroupPolicy(suite="rot13")}, "group-policy.suite"),
        ({"policy": GroupPolicy(gkm="none")}, "gkm"),
        ({"policy": GroupPolicy(replay_window=1)}, "group-policy.replay_window"),
        ({"policy": GroupPolicy(activation_ms=3000)}, "group-policy.deactivation_ms"),
        ({"policy": GroupPolicy(beacon_ms=9000)}, "group-policy.beacon_silence_ms"),
    ],
)
def test_a_conference_that_can_not_be(desk: Desk, changes: dict[str, Any], rule: str):
    assert refused(desk.create, **changes).rule == rule
    assert desk.core.conferences == {}


def test_a_description_signed_by_a_host_or_changed(desk: Desk):
    assert refused(desk.create, signer=desk.world.host("alpha")).rule == "kind"


def test_one_group_has_an_address_of_its_own(desk: Desk):
    desk.create(address="239.255.70.1")
    assert refused(desk.create, address="239.255.70.1", title="another").rule == "in-use"


def test_creating_twice_gives_the_same(desk: Desk):
    assert desk.create() == desk.create()
    assert len(desk.core.groups) == 1


def test_a_countersignature_is_over_a_hash_and_nothing_else(desk: Desk):
    conference_id = desk.create().conference_id
    bad = wire.CountersignRequest(conference_id=conference_id, head=b"the minutes of the conference")
    assert refused(desk.ask, "countersign", bad).rule == "hash"
    good = desk.ask("countersign", wire.CountersignRequest(conference_id=conference_id, head=bytes(32)))
    signed = good.countersignature
    desk.world.trust().open_statement(signed, "mcsa countersignature v1", NOW, "authorizer")
    assert wire.Countersignature.FromString(signed.statement).time_ms == NOW * 1000


@pytest.mark.parametrize(
    ("subject", "rule"), [("user/bob", "unacceptable-user"), ("host/beta", "unacceptable-host")], ids=["user", "host"]
)
def test_who_was_thrown_out_is_not_admitted_again(desk: Desk, subject: str, rule: str):
    created = desk.create()
    group_id = created.groups[0].group_id
    desk.ask("register", desk.request(group_id), desk.world.host("beta"))
    eviction = wire.Eviction(
        conference_id=created.conference_id, subject=f"spiffe://example.org/{subject}", time_ms=int(NOW * 1000)
    )
    signed = desk.world.user("alice").sign_statement("mcsa eviction v1", eviction.SerializeToString())
    desk.ask("evict", wire.EvictRequest(eviction=signed))
    assert refused(desk.ask, "register", desk.request(group_id), desk.world.host("beta")).rule == rule


def test_a_list_that_is_too_long(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(core, "MAX_NAMES", 0)
    assert refused(desk.create).code == "too-many"


def test_an_eviction_of_long_ago_or_of_nobody(desk: Desk):
    conference_id = desk.create().conference_id
    alice = desk.world.user("alice")
    old = wire.Eviction(conference_id=conference_id, subject="x", time_ms=int((NOW - 3600) * 1000))
    signed = alice.sign_statement("mcsa eviction v1", old.SerializeToString())
    assert refused(desk.ask, "evict", wire.EvictRequest(eviction=signed)).rule == "time"
    signed.signature = bytes(64)
    assert refused(desk.ask, "evict", wire.EvictRequest(eviction=signed)).rule == "signature"
    unknown = wire.Eviction(conference_id=bytes(16), subject="x", time_ms=int(NOW * 1000))
    signed = alice.sign_statement("mcsa eviction v1", unknown.SerializeToString())
    assert refused(desk.ask, "evict", wire.EvictRequest(eviction=signed)).code == "unknown-conference"


def test_sender_ids_are_never_given_twice_and_where_they_run_out_all_keys_are_replaced(desk: Desk, group_id: bytes):
    given = []
    for _ in range(3):
        response = desk.ask("register", desk.request(group_id), desk.world.host("beta"))
        given.append(open_association(desk.key, desk.request_hash, response.sealed_gsa).sender_id)
    assert given == [2, 3, 4]
    group = desk.core.groups[group_id]
    group.sender_ids.next, epoch, key = 2**20 - 2, group.epoch, group.key
    response = desk.ask("register", desk.request(group_id, host="gamma"), desk.world.host("gamma"))
    gsa = open_association(desk.key, desk.request_hash, response.sealed_gsa)
    assert gsa.sender_id == 2 and gsa.epoch > epoch and group.key != key
    assert str(desk.world.host("beta").id) not in group.members
    assert [entry.sender_id for entry in gsa.roster] == [1, 2]


def test_epochs_rise_and_are_no_less_than_the_clock(desk: Desk, group_id: bytes):
    group = desk.core.groups[group_id]
    seen = [group.epoch]
    for step in range(1, 5):
        desk.ask("register", desk.request(group_id), desk.world.host("beta"), now=NOW - 5 + step)
        seen.append(group.epoch)
    assert seen == sorted(set(seen))
    assert seen[0] == NOW * 1000


def test_forbid_wins_and_nothing_is_allowed_by_default():
    access = AccessControl(acceptable_users=["spiffe://d/user/bob"], unacceptable_users=["spiffe://d/user/bob"])
    resource = Resource("r", "spiffe://d/user/alice", POLICY_CLASS_CLOSED, access, "spiffe://d/authorizer/main")
    assert refused(Rules("d").check, "spiffe://d/user/bob", "join", resource).rule == "unacceptable-user"
    assert refused(Rules("d", "").check, "spiffe://d/user/alice", "join", resource).rule == "nothing-permits-it"
    principals = ["spiffe://d/user/alice", "spiffe://d/host/h", "spiffe://d/user/bob"]
    assert Rules("d").check_all(principals[:2], "join", resource) == [
        "verified-user-may-join",
        "host-of-the-domain-may-join",
    ]
    assert refused(Rules("d").check_all, principals, "join", resource).rule == "unacceptable-user"
    assert "any-user-may-convene" in Rules("d").check("spiffe://d/user/zoe", "create", resource)


def test_a_policy_has_safe_defaults():
    policy = complete_policy(GroupPolicy())
    assert policy.suite == "aes-256-gcm" and not policy.keep_key_on_join
    assert policy.ejection_activation_ms == 0 and policy.ejection_deactivation_ms == 500
    assert policy.replay_window >= 1024
    assert policy.multicast_updates
    assert not complete_policy(GroupPolicy(multicast_updates=False)).multicast_updates


def test_a_conference_that_nobody_is_in_is_forgotten_after_an_hour_and_its_address_is_free(desk: Desk):
    created = desk.create(address="239.255.70.1")
    (group,) = created.groups
    effects: list[Any] = []
    for minute in range(1, 70):
        effects += desk.core.handle(Woken(), NOW + 60 * minute)
        if minute == 58:
            assert group.group_id in desk.core.groups
    assert EndLog(f"conference-{created.conference_id.hex()}") in effects
    assert EndLog(f"group-{group.group_id.hex()}") in effects
    assert any(isinstance(effect, DropSender) and effect.group_id == group.group_id for effect in effects)
    assert not desk.core.groups and not desk.core.conferences and desk.core.wake_at() is None
    assert desk.create(address="239.255.70.1", nonce=b"another" + bytes(9)).conference_id != created.conference_id


def test_a_conference_with_a_member_that_renews_is_not_forgotten(desk: Desk, group_id: bytes):
    beta = desk.world.host("beta")
    desk.ask("register", desk.request(group_id), beta)
    for step in range(1, 210):
        now = NOW + 20 * step
        desk.stored(desk.core.handle(Woken(), now), now)
        assert not desk.ask("renew", wire.RenewRequest(group_id=group_id), beta, now).register_again
    assert group_id in desk.core.groups


def test_a_member_whose_lease_ends_is_removed_and_the_group_rekeyed(desk: Desk, group_id: bytes):
    beta, group = desk.world.host("beta"), desk.core.groups[group_id]
    desk.ask("register", desk.request(group_id), beta)
    desk.ask("register", desk.request(group_id, host="gamma"), desk.world.host("gamma"))
    key = group.key
    for step in range(1, 8):
        now = NOW + 10 * step
        desk.ask("renew", wire.RenewRequest(group_id=group_id), beta, now)
        desk.stored(desk.core.handle(Woken(), now), now)
        desk.stored(desk.core.handle(Woken(), now + 1), now + 1)
    assert [member.host for member in group.members] == [str(beta.id)]
    assert group.key != key and [entry.host for entry in group.roster.values()][1:] == [str(beta.id)]
    assert desk.ask("renew", wire.RenewRequest(group_id=group_id), desk.world.host("gamma"), now).register_again


def test_of_a_conference_that_is_not_stored_yet_nothing_is_said(desk: Desk):
    """A countersignature in a log without a beginning would be lost, though it was answered."""
    asked = wire.CreateRequest(description=desk.signed(), access=AccessControl())
    host = desk.world.host("alpha").identity
    desk.core.handle(Requested("create", host, asked, "creating", b""), NOW)
    conference_id = next(iter(desk.core.conferences))
    for verb, message in (
        ("countersign", wire.CountersignRequest(conference_id=conference_id, head=bytes(32))),
        ("certificate", wire.CertificateRequest(conference_id=conference_id)),
    ):
        effects = desk.core.handle(Requested(verb, host, message, "token", b""), NOW)
        assert [effect.refusal.code for effect in effects if isinstance(effect, Refuse)] == ["unknown-conference"]
        assert not any(isinstance(effect, Append) for effect in effects)


@pytest.mark.parametrize("source_key", [b"", b"\x02" * 33 + b"x", b"\x05" + bytes(32)])
def test_a_sender_without_a_source_key_where_the_policy_needs_one(desk: Desk, source_key: bytes):
    group_id = desk.create(policy=GroupPolicy(source_authentication="tree")).groups[0].group_id
    request = desk.request(group_id)
    request.source_key = source_key
    refusal = refused(desk.ask, "register", request, desk.world.host("beta"))
    assert (refusal.code, refusal.rule) == ("key-material", "source-key")


def test_the_roster_has_the_source_key_of_each_sender_and_of_none_where_nobody_asks_for_it(desk: Desk):
    key = SourceKey()
    for mode, listed in (("tesla", key.public), ("none", b"")):
        policy = GroupPolicy(source_authentication=mode)
        group_id = desk.create(policy=policy, nonce=mode.encode().ljust(16)).groups[0].group_id
        request = desk.request(group_id)
        request.source_key = key.public
        response = desk.ask("register", request, desk.world.host("beta"))
        gsa = open_association(desk.key, desk.request_hash, response.sealed_gsa)
        assert [entry.source_key for entry in gsa.roster] == [b"", listed]


@pytest.mark.parametrize(
    ("field", "value"),
    [("source_block", 65), ("source_block_ms", 1_001), ("tesla_interval_ms", 9), ("tesla_disclosure", 1)],
)
def test_a_source_policy_that_can_not_be(desk: Desk, field: str, value: int):
    policy = GroupPolicy(source_authentication="tesla", **{field: value})  # type: ignore[arg-type]
    assert refused(desk.create, policy=policy).rule == f"group-policy.{field}"


def test_two_hosts_of_a_group_can_not_send_from_one_address(desk: Desk, group_id: bytes):
    """Where applications know each other by address, the second could pass for the first."""
    desk.ask("register", desk.request(group_id), desk.world.host("beta"))
    claimed = desk.request(group_id, "bob", "gamma")
    claimed.address = address_of("beta")
    refusal = refused(desk.ask, "register", claimed, desk.world.host("gamma"))
    assert (refusal.code, refusal.rule) == ("address", "claimed")
    assert f"{desk.world.host('beta').id} has said that it sends from" in refusal.sentence
    claimed.sender = False  # who sends nothing is taken for nobody
    desk.ask("register", claimed, desk.world.host("gamma"))
    desk.ask("register", desk.request(group_id), desk.world.host("beta"), NOW + 1)  # its own, again
