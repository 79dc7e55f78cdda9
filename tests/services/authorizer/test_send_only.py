"""A host that sends and is no member, as the Authorizer decides it: who may, what it gets, what it never gets."""

from __future__ import annotations

from typing import Any

import pytest

from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.suite import suite_named
from mcsa.registration import open_association, open_sending
from mcsa.sealing import SealingKey
from mcsa.v1 import authorizer_pb2 as wire
from mcsa.v1.authorizer_log_pb2 import GroupRecord
from mcsa.v1.types_pb2 import (
    POLICY_CLASS_CLOSED,
    POLICY_CLASS_OPEN,
    AccessControl,
    GroupPolicy,
)
from services.authorizer.batch import Joiner
from services.authorizer.config import AuthorizerSettings
from services.authorizer.core import AuthorizerCore, Settings
from services.authorizer.group import Group
from services.authorizer.rules import Resource, Rules
from tests.services.authorizer.parts import address_of
from tests.services.authorizer.test_core import Desk, refused
from tests.world import NOW, World, seeded

USER, HOST = "spiffe://d/user/{}", "spiffe://d/host/{}"


class SendOnlyDesk(Desk):
    """Asks to send only, too."""

    def open_group(self, policy: GroupPolicy | None = None) -> Group:
        created = self.create(policy_class=POLICY_CLASS_OPEN, policy=policy)
        group: Group = self.core.groups[created.groups[0].group_id]
        return group

    def sender_request(self, group_id: bytes, user: str = "eve", host: str = "echo", **changes: Any) -> Any:
        registration = self.request(group_id, user, host, send_only=True, **changes)
        return wire.RegisterSenderRequest(
            group_id=group_id,
            hpke_public_key=registration.hpke_public_key,
            hpke_suite=registration.hpke_suite,
            user_statement=registration.user_statement,
            address=address_of(host),
            asked_ms=round(NOW * 1000),
        )

    def send_only(self, group: Group, user: str = "eve", host: str = "echo", now: float = NOW) -> Any:
        response = self.ask("register-sender", self.sender_request(group.id, user, host), self.world.host(host), now)
        return open_sending(self.key, self.request_hash, response.sealed_association)

    def renew(self, group: Group, sender_id: int, have: int, host: str = "echo", now: float = NOW) -> Any:
        key = SealingKey.generate("x25519")
        request = wire.RenewSenderRequest(
            group_id=group.id, sender_id=sender_id, have_epoch=have, hpke_public_key=key.public
        )
        response = self.ask("renew-sender", request, self.world.host(host), now)
        sealed = response.sealed_association
        return response, open_sending(key, self.request_hash, sealed) if sealed else None

    def join(self, group: Group, user: str = "bob", host: str = "beta", now: float = NOW) -> Any:
        response = self.ask("register", self.request(group.id, user, host), self.world.host(host), now)
        return open_association(self.key, self.request_hash, response.sealed_gsa)

    def evict(self, group: Group, subject: str) -> None:
        eviction = wire.Eviction(conference_id=group.conference_id, subject=subject, time_ms=round(NOW * 1000))
        signed = self.world.user("alice").sign_statement("mcsa eviction v1", eviction.SerializeToString())
        self.ask("evict", wire.EvictRequest(eviction=signed))


@pytest.fixture
def desk(world: World) -> SendOnlyDesk:
    return SendOnlyDesk(world)


def test_it_gets_the_key_of_its_own_spi_and_nothing_else(desk: SendOnlyDesk):
    group = desk.open_group()
    desk.join(group)
    association = desk.send_only(group)
    suite = suite_named(group.policy.suite)
    own = derive_traffic_key(group.key, group.domain, group.id, group.epoch, suite, association.sender_id)
    assert association.keymat == own.reveal()
    assert association.epoch == group.epoch and association.group.group_id == group.id
    everything = association.SerializeToString()
    assert group.key.reveal() not in everything
    for other in group.roster.values():
        if other.sender_id != association.sender_id:
            key = derive_traffic_key(group.key, group.domain, group.id, group.epoch, suite, other.sender_id)
            assert key.reveal() not in everything
    told = {field.name for field in association.DESCRIPTOR.fields}
    assert told == {"group", "conference_id", "description", "sender_id", "epoch", "keymat", "activation_ms", "time_ms"}


def test_it_is_in_the_roster_as_no_member_and_replaces_no_key(desk: SendOnlyDesk):
    group = desk.open_group()
    desk.join(group)
    epoch, key, number = group.epoch, group.key, group.number
    association = desk.send_only(group)
    entry = group.roster[association.sender_id]
    assert entry.send_only and entry.host == str(desk.world.host("echo").id) and entry.address == address_of("echo")
    assert str(desk.world.host("echo").id) not in group.members
    assert (group.epoch, group.key, group.number) == (epoch, key, number + 1)


def test_any_user_of_the_domain_sends_to_an_open_group_and_a_host_for_itself(desk: SendOnlyDesk):
    group = desk.open_group()
    assert desk.send_only(group).sender_id == 2
    request = desk.sender_request(group.id, host="foxtrot")
    request.ClearField("user_statement")
    response = desk.ask("register-sender", request, desk.world.host("foxtrot"))
    assert open_sending(desk.key, desk.request_hash, response.sealed_association).sender_id == 3


def test_to_a_closed_group_only_who_is_on_the_list_of_senders_does(desk: SendOnlyDesk):
    access = AccessControl(
        acceptable_users=[str(desk.world.user("bob").id)], acceptable_senders=[str(desk.world.user("eve").id)]
    )
    created = desk.ask("create", wire.CreateRequest(description=desk.signed(), access=access))
    group = desk.core.groups[created.groups[0].group_id]
    assert desk.send_only(group, "eve").sender_id == 2
    for user in ("bob", "mallory", "alice"):  # who may join may not, for that, stay outside and send
        request = desk.sender_request(group.id, user)
        rule = refused(desk.ask, "register-sender", request, desk.world.host("echo")).rule
        assert rule == "closed-group-hears-acceptable-senders-only"
    alone = desk.sender_request(group.id)
    alone.ClearField("user_statement")
    rule = refused(desk.ask, "register-sender", alone, desk.world.host("echo")).rule
    assert rule == "closed-group-hears-hosts-for-a-user-or-by-name"
    joining = desk.request(group.id, "eve", "echo")  # and who may send may not, for that, come in
    assert refused(desk.ask, "register", joining, desk.world.host("echo")).rule == (
        "closed-group-admits-acceptable-users-only"
    )


def test_a_statement_is_good_for_one_purpose(desk: SendOnlyDesk):
    group = desk.open_group()
    request = desk.request(group.id, "eve", "echo")
    asked = wire.RegisterSenderRequest(
        group_id=group.id,
        hpke_public_key=request.hpke_public_key,
        hpke_suite="x25519",
        user_statement=request.user_statement,
        address="198.51.100.9",
    )
    assert refused(desk.ask, "register-sender", asked, desk.world.host("echo")).rule == "user-statement.purpose"
    made_member = desk.request(group.id, "eve", "echo", send_only=True)
    assert refused(desk.ask, "register", made_member, desk.world.host("echo")).rule == "user-statement.purpose"


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("hpke_suite", "x-wing", "group-policy.hpke"),
        ("hpke_public_key", b"short", "suite"),
        ("address", "nowhere", "source-address"),
        ("group_id", bytes(16), "group"),
    ],
)
def test_what_a_request_to_send_is_refused_for(desk: SendOnlyDesk, field: str, value: Any, rule: str):
    request = desk.sender_request(desk.open_group().id)
    setattr(request, field, value)
    assert refused(desk.ask, "register-sender", request, desk.world.host("echo")).rule == rule


def test_to_a_source_specific_group_only_its_sources_send(desk: SendOnlyDesk):
    group = desk.open_group()
    group.description.sources.extend(["198.51.100.8"])
    request = desk.sender_request(group.id)
    assert refused(desk.ask, "register-sender", request, desk.world.host("echo")).rule == "sources"
    group.description.sources.append(request.address)
    assert desk.send_only(group).sender_id == 2


def test_a_user_is_no_host(desk: SendOnlyDesk):
    request = desk.sender_request(desk.open_group().id)
    assert refused(desk.ask, "register-sender", request, desk.world.user("eve")).rule == "hosts-send"


def test_a_new_epoch_brings_it_the_key_of_its_own_spi_in_it(desk: SendOnlyDesk):
    group = desk.open_group()
    first = desk.send_only(group)
    assert desk.renew(group, first.sender_id, first.epoch)[1] is None  # there is no newer one
    desk.join(group)  # replaces the key
    response, second = desk.renew(group, first.sender_id, first.epoch, now=NOW + 0.1)  # flushed after 20 ms
    assert not response.register_again
    assert second.epoch == group.epoch > first.epoch
    assert second.sender_id == first.sender_id and second.keymat != first.keymat
    assert second.activation_ms == 170
    assert desk.renew(group, first.sender_id, first.epoch, now=NOW + 1)[1].activation_ms == 0


def test_nobody_gets_the_key_of_another_sender_by_asking_for_it(desk: SendOnlyDesk):
    group = desk.open_group()
    desk.join(group)
    own = desk.send_only(group)
    for sender_id in (0, 1, 2, own.sender_id + 1):
        response, association = desk.renew(group, sender_id, 0)
        assert response.register_again and association is None
    response, association = desk.renew(group, own.sender_id, 0, host="mallory")
    assert response.register_again and association is None
    response, association = desk.renew(group, 2, 0, host="beta")  # a member asks for itself
    assert response.register_again and association is None


def test_evicting_its_user_or_its_host_takes_it_off_and_gives_it_no_key(desk: SendOnlyDesk):
    for subject in (str(desk.world.user("eve").id), str(desk.world.host("echo").id)):
        group = desk.open_group()
        desk.join(group)
        sender_id, epoch = desk.send_only(group).sender_id, group.epoch
        desk.evict(group, subject)
        assert sender_id not in group.roster and group.epoch == epoch  # it could read nothing: no key is replaced
        update = group.updates_since(group.number - 1)
        assert update is not None and len(update) == 1
        assert desk.renew(group, sender_id, 0)[0].register_again
        assert refused(
            desk.ask, "register-sender", desk.sender_request(group.id), desk.world.host("echo")
        ).rule.startswith("unacceptable-")
        del desk.core.groups[group.id], desk.core.conferences[group.conference_id]


def test_leaving_and_a_lease_that_ends_take_it_off(desk: SendOnlyDesk):
    group = desk.open_group()
    sender_id = desk.send_only(group).sender_id
    desk.ask("leave", wire.LeaveRequest(group_id=group.id), desk.world.host("echo"))
    assert sender_id not in group.roster and not len(group.send_only)
    again = desk.send_only(group)
    assert again.sender_id > sender_id  # a sender ID is given once
    lease = group.policy.lease_s
    assert group.sweep(NOW + lease / 2) == 0
    assert not desk.renew(group, again.sender_id, group.epoch, now=NOW + lease - 1)[0].register_again
    assert group.sweep(NOW + lease + 1) == 0
    assert group.sweep(NOW + 3 * lease) == 1


def test_who_comes_back_as_a_member_is_not_missed_as_a_sender(desk: SendOnlyDesk):
    group = desk.open_group()
    desk.send_only(group)
    joiner = Joiner("t", desk.request(group.id, "eve", "echo"), b"h", str(desk.world.host("echo").id), None)
    group.join(joiner, NOW + 1)
    assert group.sweep(NOW + 3 * group.policy.lease_s) == 1  # as a sender it was silent for long
    assert list(group.batch.joiners.values()) == [joiner] and not group.batch.dismissed


def test_a_host_is_a_member_or_sends_only(desk: SendOnlyDesk):
    group = desk.open_group()
    member = desk.join(group, "eve", "echo")
    key = group.key
    sending = desk.send_only(group)
    assert str(desk.world.host("echo").id) not in group.members and group.key != key  # it knew the old one
    assert member.sender_id not in group.roster and sending.epoch == group.epoch
    back = desk.join(group, "eve", "echo")
    assert sending.sender_id not in group.roster and not len(group.send_only)
    assert back.sender_id > sending.sender_id


def test_it_registers_again_under_another_sender_id(desk: SendOnlyDesk):
    group = desk.open_group()
    first, second = desk.send_only(group), desk.send_only(group)
    assert second.sender_id > first.sender_id
    assert first.sender_id not in group.roster and len(group.send_only) == 1


def test_the_log_has_it_all(desk: SendOnlyDesk):
    group = desk.open_group()
    first = GroupRecord(snapshot=group.snapshot())
    desk.send_only(group, "eve", "echo")
    desk.send_only(group, "dave", "delta")
    desk.ask("leave", wire.LeaveRequest(group_id=group.id), desk.world.host("delta"))
    flushed = [effect for effect in desk.effects if type(effect).__name__ == "Append" and "group" in effect.log]
    records = [first, *(GroupRecord.FromString(append.plaintext) for append in flushed[-3:])]
    for kept in (records, [GroupRecord(snapshot=group.snapshot())]):
        again = Group.restored(group._setting, kept, NOW)
        assert again is not None
        assert [each.host for each in again.send_only] == [str(desk.world.host("echo").id)]
        assert {entry.sender_id: entry for entry in again.roster.values()} == {
            entry.sender_id: entry for entry in group.roster.values()
        }
        assert again.sending_key(str(desk.world.host("echo").id), NOW) == group.sending_key(
            str(desk.world.host("echo").id), NOW
        )
        assert again.sender_ids.next == group.sender_ids.next


def test_the_very_same_request_gets_the_same_sender_id_from_a_process_that_took_over(desk: SendOnlyDesk):
    group = desk.open_group()
    request = desk.sender_request(group.id)
    response = desk.ask("register-sender", request, desk.world.host("echo"))
    first = open_sending(desk.key, desk.request_hash, response.sealed_association)
    response = desk.ask("register-sender", request, desk.world.host("echo"))
    assert open_sending(desk.key, desk.request_hash, response.sealed_association).sender_id == first.sender_id


def test_sender_ids_that_run_out_replace_all_keys_and_it_registers_again(desk: SendOnlyDesk):
    group = desk.open_group()
    first = desk.send_only(group)
    group.sender_ids.next = 2**20 - 2
    second = desk.send_only(group, "dave", "delta")
    assert second.sender_id == 2 and second.epoch == group.epoch > first.epoch
    assert desk.renew(group, first.sender_id, first.epoch)[0].register_again


# ---- who may create (closed multicast, sender's view)


def test_any_user_of_the_domain_may_create_unless_some_are_named(world: World):
    desk = SendOnlyDesk(world)
    assert desk.create().groups
    rules = Rules(world.domain, creators=[str(world.user("zoe").id)])
    desk.core = AuthorizerCore(world.authorizer, world.trust(), seeded(1), Settings(), rules)
    denied = refused(desk.create, nonce=bytes(15) + b"1")
    assert denied.rule == "listed-creators-only" and "alice" in denied.sentence
    assert desk.create(signer=world.user("zoe"), coordinator=str(world.user("zoe").id)).groups


def test_who_may_create_is_configured(tmp_path: Any):
    known: dict[str, Any] = {
        "credentials": tmp_path / "key.pem",
        "anchors": tmp_path / "anchors.pem",
        "nkey": tmp_path / "nkey",
        "domain": "example.org",
        "bus": ["nats://broker"],
        "address": "198.51.100.1",
    }
    zoe = "spiffe://example.org/user/zoe"
    with pytest.raises(ValueError, match="has to be a user of this domain"):
        AuthorizerSettings(**known, creators=("spiffe://example.org/host/alpha",))
    with pytest.raises(ValueError, match="for the built-in rules"):
        AuthorizerSettings(**known, creators=(zoe,), rules=tmp_path / "rules.cedar")
    assert AuthorizerSettings(**known, creators=(zoe,)).creators == (zoe,)


def resource(policy_class: int, **access: list[str]) -> Resource:
    return Resource("r", USER.format("alice"), policy_class, AccessControl(**access), "spiffe://d/authorizer/main")


def test_the_rules_about_sending_without_joining():
    rules = Rules("d")
    open_, closed = resource(POLICY_CLASS_OPEN), resource(POLICY_CLASS_CLOSED, acceptable_senders=[HOST.format("h")])
    assert rules.check(USER.format("eve"), "sendOnly", open_) == "user-of-the-domain-may-send-without-joining"
    assert rules.check(HOST.format("h"), "sendOnly", open_, with_user=False) == (
        "host-of-the-domain-may-send-without-joining"
    )
    assert rules.check(HOST.format("h"), "sendOnly", closed, with_user=False)
    stranger = "spiffe://elsewhere/user/eve"
    assert refused(rules.check, stranger, "sendOnly", open_).rule == "nothing-permits-it"
    named = resource(POLICY_CLASS_CLOSED, acceptable_senders=[stranger])
    assert refused(rules.check, stranger, "sendOnly", named).rule == "nothing-permits-it"
    banned = resource(POLICY_CLASS_OPEN, unacceptable_users=[USER.format("eve")], unacceptable_hosts=[HOST.format("h")])
    assert refused(rules.check, USER.format("eve"), "sendOnly", banned).rule == "unacceptable-user"
    assert refused(rules.check, HOST.format("h"), "sendOnly", banned).rule == "unacceptable-host"
    some = resource(POLICY_CLASS_OPEN, acceptable_hosts=[HOST.format("g")])
    assert refused(rules.check, HOST.format("h"), "sendOnly", some).rule == "listed-hosts-only"
    both = resource(POLICY_CLASS_OPEN, acceptable_hosts=[HOST.format("g")], acceptable_senders=[HOST.format("h")])
    assert rules.check(HOST.format("h"), "sendOnly", both)
    assert refused(rules.check, HOST.format("h"), "join", both).rule == "listed-hosts-only"


def test_an_access_control_list_of_senders_is_bounded(desk: SendOnlyDesk):
    access = AccessControl(acceptable_senders=[USER.format(number) for number in range(10_001)])
    asked = wire.CreateRequest(description=desk.signed(), access=access)
    assert refused(desk.ask, "create", asked).code == "too-many"
