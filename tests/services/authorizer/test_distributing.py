"""What the Authorizer makes of a distributor's report; each refusal, and the new key that it forces."""

from __future__ import annotations

from typing import Any

import pytest

from mcsa.distribution import access_list_hash, open_right, unseal_access_list
from mcsa.endpoint import Answer, Refuse, Requested, Woken
from mcsa.envelope import CLOCK_SKEW, payload_hash, sign_envelope
from mcsa.gkm import scheme_named
from mcsa.identity import Credentials
from mcsa.registration import open_association
from mcsa.sealing import SealingKey
from mcsa.statements import EVICTION_LABEL
from mcsa.trust import Trust
from mcsa.updates import group_recipient
from mcsa.v1 import authorizer_pb2 as wire
from mcsa.v1.types_pb2 import GroupPolicy
from services.authorizer import group_answers
from services.authorizer.admissions import REPORTS_FOR
from services.authorizer.blocks import SENDER_IDS
from services.authorizer.core import AuthorizerCore, Settings
from services.authorizer.events import Append, Appended, Decided
from tests.services.authorizer.parts import address_of
from tests.services.authorizer.test_core import Desk, refused
from tests.world import NOW, World, seeded

HOURS = 3_600.0


class Reported(Desk):
    """A group with a distributor, alpha, for bob; and newcomers that it has welcomed."""

    def __init__(self, world: World, gkm: str = "cbt", settings: Settings | None = None) -> None:
        super().__init__(world)
        self.gkm = gkm
        if settings is not None:
            self.core = AuthorizerCore(world.authorizer, world.trust(), seeded(1), settings)
        self.group_id = self.create(policy=GroupPolicy(gkm=gkm, rekey_s=80_000)).groups[0].group_id
        self.gsa = self.register("alpha")

    @property
    def group(self) -> Any:
        return self.core.groups[self.group_id]

    def asked(self, host: str, user: str = "bob", contribution: bytes | None = None, **changes: Any) -> Any:
        asked_ms = changes.pop("asked_ms", round(NOW * 1000) + 1)
        request = self.request(self.group_id, user, host, **changes)
        self.joining = scheme_named(self.gkm).begin(seeded(sum(host.encode())))
        request.gkm_contribution = self.joining.contribution if contribution is None else contribution
        request.asked_ms = asked_ms
        return request

    def register(self, host: str, **changes: Any) -> wire.GroupSecurityAssociation:
        response = self.ask("register", self.asked(host, **changes), self.world.host(host))
        return open_association(self.key, self.request_hash, response.sealed_gsa)

    def envelope(
        self,
        request: Any,
        signer: Credentials,
        recipient: str | None = None,
        deadline_at: float = NOW + 1.0,
        in_reply_to: bytes = b"",
    ) -> bytes:
        to = recipient or group_recipient(self.group_id)
        return sign_envelope(signer, request, to, bytes(16), deadline_at, in_reply_to).raw

    def report(self, raw: bytes, sender_id: int | None = None, epoch: int | None = None) -> wire.AdoptRequest:
        block = self.group.blocks.of(str(self.world.host("alpha").id))
        return wire.AdoptRequest(
            group_id=self.group_id,
            request=raw,
            sender_id=block.first_sender_id if sender_id is None else sender_id,
            epoch=self.group.epoch if epoch is None else epoch,
        )

    def adopt(self, host: str = "beta", sender_id: int | None = None, now: float = NOW, **changes: Any) -> bool:
        raw = self.envelope(self.asked(host, **changes), self.world.host(host))
        adopted: bool = self.ask("adopt", self.report(raw, sender_id), now=now).adopted
        return adopted

    def is_rekeyed(self, since: int) -> bool:
        """Nobody who was welcomed and isn't known has a key any more."""
        return bool(self.group.epoch > since and self.group.formed_epoch == self.group.epoch)

    def host(self, name: str) -> str:
        return str(self.world.host(name).id)

    def trusts(self) -> bool:
        """Alpha may still distribute."""
        return self.group.right_of(self.host("alpha"), NOW) is not None


@pytest.fixture
def desk(world: World) -> Reported:
    return Reported(world)


def test_who_registers_may_distribute_and_is_told_how(desk: Reported):
    right = open_right(
        desk.gsa.distribution_right,
        str(desk.world.authorizer.id),
        desk.group_id,
        desk.host("alpha"),
        desk.world.trust(),
        NOW,
    )
    assert right.sender_ids == SENDER_IDS
    assert right.access_list == access_list_hash(desk.gsa.access_list)
    assert right.authority_public_key == desk.group.gkm.public_key
    listed = wire.AccessList.FromString(desk.gsa.access_list)
    assert list(listed.access.acceptable_users) == [str(desk.world.user("bob").id)]
    assert listed.coordinator == str(desk.world.user("alice").id)
    assert desk.group.sender_ids.next == right.first_sender_id + SENDER_IDS


def test_a_report_makes_a_member_and_the_key_stays(desk: Reported):
    epoch, number = desk.group.epoch, desk.group.number
    block = desk.group.blocks.of(desk.host("alpha"))
    assert desk.adopt()
    assert (desk.group.epoch, desk.group.number) == (epoch, number + 1)
    member = desk.group.members.get(desk.host("beta"))
    assert (member.sender_id, member.users) == (block.first_sender_id, {str(desk.world.user("bob").id)})
    assert desk.group.roster[block.first_sender_id].address == address_of("beta")
    decided = [effect for effect in desk.effects if isinstance(effect, Decided)][-1]
    assert decided.allowed and decided.action == f"join at {desk.host('alpha')}"


def test_a_report_that_comes_twice_changes_nothing(desk: Reported):
    raw = desk.envelope(desk.asked("beta"), desk.world.host("beta"))
    report = desk.report(raw)
    assert desk.ask("adopt", report).adopted
    number = desk.group.number
    assert desk.ask("adopt", report).adopted
    assert desk.group.number == number


def test_a_report_by_no_member_or_in_another_protocol_is_refused_and_no_more(desk: Reported, world: World):
    raw = desk.envelope(desk.asked("beta"), world.host("beta"))
    epoch = desk.group.epoch
    assert refused(desk.ask, "adopt", desk.report(raw), world.host("delta")).code == "not-distributor"
    assert desk.group.epoch == epoch
    other = Reported(world, "lkh")
    report = wire.AdoptRequest(group_id=other.group_id, request=raw, sender_id=2, epoch=other.group.epoch)
    epoch = other.group.epoch
    assert refused(other.ask, "adopt", report).code == "not-distributor"
    assert other.group.epoch == epoch
    assert not other.gsa.HasField("distribution_right")


@pytest.mark.parametrize("which", ["before", "after", "another's"])
def test_a_sender_id_that_is_not_the_distributors_costs_it_its_block(desk: Reported, which: str):
    block = desk.group.blocks.of(desk.host("alpha"))
    if which == "another's":
        desk.register("gamma")
        sender_id = desk.group.blocks.of(desk.host("gamma")).first_sender_id
    else:
        sender_id = block.first_sender_id - 1 if which == "before" else block.first_sender_id + SENDER_IDS
    epoch = desk.group.epoch
    assert refused(desk.adopt, sender_id=sender_id).code == "sender-id"
    assert desk.is_rekeyed(epoch)
    assert desk.host("beta") not in desk.group.members
    assert not desk.trusts()
    assert refused(desk.adopt, "delta", sender_id=block.first_sender_id).code == "sender-id"


def test_a_sender_id_is_given_once_also_where_its_owner_has_gone(desk: Reported):
    assert desk.adopt("beta")
    desk.ask("leave", wire.LeaveRequest(group_id=desk.group_id), desk.world.host("beta"))
    assert desk.host("beta") not in desk.group.members
    first = desk.group.blocks.of(desk.host("alpha")).first_sender_id
    epoch = desk.group.epoch
    assert refused(desk.adopt, "gamma", sender_id=first).code == "sender-id"
    assert desk.is_rekeyed(epoch)


@pytest.mark.parametrize(
    ("lie", "rule", "blamed"),
    [
        ("garbage", "malformed", True),
        ("no envelope of the newcomer's", "signature", True),
        ("another contribution", "signature", True),
        ("another's name", "sender", True),
        ("a user's", "kind", True),
        ("of another domain", "certificate", False),
        ("asked of the Authorizer", "recipient", True),
        ("asked of another group", "recipient", True),
        ("about another group", "recipient", True),
        ("no sender", "recipient", True),
        ("another kind of message", "message-type", True),
        ("an answer", "in-reply-to", True),
        ("too late", "late", False),
    ],
)
def test_a_report_without_the_newcomers_own_request_is_refused_and_the_key_replaced(
    desk: Reported, lie: str, rule: str, blamed: bool
):
    world, beta = desk.world, desk.world.host("beta")
    request = desk.asked("beta")
    raw = desk.envelope(request, beta)
    match lie:
        case "garbage":
            raw = b"\xff\xff"
        case "no envelope of the newcomer's":
            raw = _altered(desk.envelope(request, beta), signature=bytes(64))
        case "another contribution":
            own = desk.asked("beta", contribution=scheme_named("cbt").begin(seeded(77)).contribution)
            raw = _altered(raw, payload=own.SerializeToString())
        case "another's name":
            raw = _altered(desk.envelope(request, world.host("alpha")), sender=str(beta.id))
        case "a user's":
            raw = desk.envelope(request, world.user("bob"))
        case "of another domain":
            raw = desk.envelope(request, World().host("beta"))
        case "asked of the Authorizer":
            raw = desk.envelope(request, beta, str(world.authorizer.id))
        case "asked of another group":
            raw = desk.envelope(request, beta, group_recipient(bytes(16)))
        case "about another group":
            request.group_id = bytes(16)
            raw = desk.envelope(request, beta)
        case "no sender":
            request.sender = False
            raw = desk.envelope(request, beta)
        case "another kind of message":
            raw = desk.envelope(wire.RenewRequest(group_id=desk.group_id), beta)
        case "an answer":
            raw = desk.envelope(request, beta, in_reply_to=b"1" * 32)
        case "too late":
            raw = desk.envelope(request, beta, deadline_at=NOW - REPORTS_FOR - 1)
    epoch = desk.group.epoch
    refusal = refused(desk.ask, "adopt", desk.report(raw))
    assert (refusal.code, refusal.rule) == ("envelope", rule)
    assert desk.is_rekeyed(epoch)
    assert desk.host("beta") not in desk.group.members
    assert desk.trusts() is not blamed


def _altered(raw: bytes, **changes: Any) -> bytes:
    from mcsa.v1.envelope_pb2 import Envelope

    envelope = Envelope.FromString(raw)
    for name, value in changes.items():
        setattr(envelope, name, value)
    return envelope.SerializeToString()


def test_a_report_is_looked_at_as_of_when_the_newcomer_asked(desk: Reported):
    """The Authorizer was away for four minutes: deadline and statement have passed, and were good then."""
    assert desk.adopt(now=NOW + REPORTS_FOR - 60)


def test_a_newcomer_whose_certificate_was_revoked_is_left_out_and_the_distributor_not_blamed(desk: Reported):
    beta = desk.world.host("beta")
    trust: Trust = desk.core._trust
    trust.revoke(desk.world.authority.revoke([beta.certificate.serial_number], NOW))
    epoch = desk.group.epoch
    assert refused(desk.adopt).rule == "revoked"
    assert desk.is_rekeyed(epoch) and desk.trusts()


def eviction(desk: Reported, subject: str) -> wire.EvictRequest:
    conference_id = next(iter(desk.core.conferences))
    said = wire.Eviction(conference_id=conference_id, subject=subject, time_ms=round(NOW * 1000))
    signed = desk.world.user("alice").sign_statement(EVICTION_LABEL, said.SerializeToString())
    return wire.EvictRequest(eviction=signed)


def evict(desk: Reported, subject: str) -> None:
    desk.ask("evict", eviction(desk, subject))


@pytest.mark.parametrize(
    ("user", "changes", "code", "rule"),
    [
        ("mallory", {}, "not-allowed", "closed-group-admits-acceptable-users-only"),
        ("bob", {"host_of": "gamma"}, "user-statement", "user-statement.host"),
        ("bob", {"suite": "x-wing"}, "policy", "group-policy.hpke"),
        ("bob", {"address": "nowhere"}, "address", "source-address"),
    ],
)
def test_who_may_not_join_is_left_out_by_a_new_key_and_the_distributor_keeps_its_right(
    desk: Reported, user: str, changes: dict[str, str], code: str, rule: str
):
    suite: dict[str, Any] = {k: v for k, v in changes.items() if k == "suite"}
    request = desk.asked(changes.get("host_of", "beta"), user, **suite)
    request.address = changes.get("address", request.address)
    epoch = desk.group.epoch
    refusal = refused(desk.ask, "adopt", desk.report(desk.envelope(request, desk.world.host("beta"))))
    assert (refusal.code, refusal.rule) == (code, rule)
    assert desk.is_rekeyed(epoch) and desk.trusts()
    assert desk.host("beta") not in desk.group.members


@pytest.mark.parametrize("what", ["user", "host"])
def test_an_eviction_replaces_the_key_also_where_nobody_known_is_evicted(desk: Reported, what: str):
    subject = str(desk.world.user("carol").id) if what == "user" else desk.host("gamma")
    epoch = desk.group.epoch
    evict(desk, subject)
    assert desk.is_rekeyed(epoch)


def test_who_was_evicted_before_the_report_is_left_out_by_that_already(desk: Reported):
    raw = desk.envelope(desk.asked("beta"), desk.world.host("beta"))
    report = desk.report(raw)
    evict(desk, desk.host("beta"))
    epoch = desk.group.epoch
    assert desk.ask("adopt", report).adopted is False
    assert desk.group.epoch == epoch
    later = desk.report(raw)  # as if it had been welcomed after the eviction
    assert refused(desk.ask, "adopt", later).rule == "unacceptable-host"
    assert desk.is_rekeyed(epoch)


def test_a_contribution_that_another_has_is_not_taken_over(desk: Reported):
    assert desk.adopt("beta")
    taken = scheme_named("cbt").begin(seeded(sum(b"beta"))).contribution
    first, epoch = desk.group.blocks.of(desk.host("alpha")).first_sender_id, desk.group.epoch
    assert refused(desk.adopt, "gamma", sender_id=first + 1, contribution=taken).code == "key-material"
    assert refused(desk.adopt, "gamma", sender_id=first + 1, contribution=bytes(32)).code == "key-material"
    assert desk.is_rekeyed(epoch) and desk.trusts()
    assert desk.host("beta") in desk.group.members


def test_of_two_with_one_contribution_in_one_batch_the_second_is_left_out(desk: Reported):
    same = scheme_named("cbt").begin(seeded(8)).contribution
    first, effects = desk.group.blocks.of(desk.host("alpha")).first_sender_id, list[Any]()
    epoch = desk.group.epoch
    for number, host in enumerate(("beta", "gamma")):
        raw = desk.envelope(desk.asked(host, contribution=same), desk.world.host(host))
        report = desk.report(raw, first + number)
        effects += desk.core.handle(
            Requested("adopt", desk.world.host("alpha").identity, report, host, payload_hash(report)), NOW
        )
    assert not [effect for effect in effects if isinstance(effect, Answer | Refuse)]
    effects += desk.stored(desk.core.handle(Woken(), NOW + 1), NOW + 1)
    outcomes: dict[Any, Any] = {effect.token: effect for effect in effects if isinstance(effect, Answer | Refuse)}
    assert not isinstance(outcomes["beta"], Refuse) and outcomes["beta"].message.adopted
    assert isinstance(outcomes["gamma"], Refuse) and outcomes["gamma"].refusal.code == "key-material"
    assert desk.is_rekeyed(epoch)
    assert desk.host("beta") in desk.group.members and desk.host("gamma") not in desk.group.members


def waiting(desk: Reported, verb: str, message: Any, caller: str = "alpha") -> None:
    """Asks what waits for its batch, under a token that is the verb."""
    who = desk.world.host(caller).identity
    desk.effects += desk.stored(desk.core.handle(Requested(verb, who, message, verb, payload_hash(message)), NOW), NOW)


def reported(desk: Reported) -> Any:
    """What becomes of the report that waits."""
    desk.effects += desk.stored(desk.core.handle(Woken(), NOW + 1), NOW + 1)
    outcomes: list[Any] = [
        effect for effect in desk.effects if isinstance(effect, Answer | Refuse) and effect.token == "adopt"
    ]
    return outcomes[0].refusal.code if isinstance(outcomes[0], Refuse) else outcomes[0].message.adopted


def test_who_is_thrown_out_while_its_report_waits_is_left_out(desk: Reported):
    waiting(desk, "adopt", desk.report(desk.envelope(desk.asked("beta"), desk.world.host("beta"))))
    epoch = desk.group.epoch
    waiting(desk, "evict", eviction(desk, str(desk.world.user("bob").id)))
    assert reported(desk) == "dismissed"
    assert desk.is_rekeyed(epoch)
    assert not len(desk.group.members)


def test_who_registers_while_its_report_waits_is_the_one_that_registered(desk: Reported):
    waiting(desk, "adopt", desk.report(desk.envelope(desk.asked("beta"), desk.world.host("beta"))))
    waiting(desk, "register", desk.asked("beta", asked_ms=round(NOW * 1000) + 2), "beta")
    assert reported(desk) is False
    assert desk.host("beta") in desk.group.members
    assert not desk.group.blocks.of(desk.host("alpha")).used


def test_a_report_of_a_host_that_has_registered_since_changes_nothing(desk: Reported):
    raw = desk.envelope(desk.asked("beta", asked_ms=1_000), desk.world.host("beta"))
    report = desk.report(raw)
    gsa = desk.register("beta", asked_ms=1_000)  # the same moment: the Authorizer is always asked second
    report.epoch, epoch = desk.group.epoch, desk.group.epoch
    assert desk.ask("adopt", report).adopted is False
    assert desk.group.epoch == epoch
    assert desk.group.members.get(desk.host("beta")).sender_id == gsa.sender_id


def test_a_host_that_comes_back_at_a_distributor_takes_its_own_place(desk: Reported):
    old = desk.register("beta", asked_ms=1_000).sender_id
    epoch, first = desk.group.epoch, desk.group.blocks.of(desk.host("alpha")).first_sender_id
    contribution = scheme_named("cbt").begin(seeded(99)).contribution
    assert desk.adopt("beta", asked_ms=2_000, contribution=contribution)
    assert desk.group.members.get(desk.host("beta")).sender_id == first
    assert old not in desk.group.roster
    assert desk.is_rekeyed(epoch)  # those that beta may have welcomed before are out
    assert desk.group.blocks.of(desk.host("beta")).first_sender_id > first + SENDER_IDS


def test_a_host_about_to_be_taken_off_is_reported_again(desk: Reported):
    desk.register("beta", asked_ms=1_000)
    waiting(desk, "leave", wire.LeaveRequest(group_id=desk.group_id), "beta")
    contribution = scheme_named("cbt").begin(seeded(99)).contribution
    epoch = desk.group.epoch
    assert refused(desk.adopt, asked_ms=2_000, contribution=contribution).code == "busy"
    assert desk.group.epoch == epoch


def test_while_a_record_is_under_way_a_report_has_to_wait(desk: Reported):
    desk.group.number += 1
    assert refused(desk.adopt).code == "busy"


def test_what_a_refused_report_decides_is_stored_before_it_is_answered(desk: Reported):
    raw = desk.envelope(desk.asked("beta", "mallory"), desk.world.host("beta"))
    report = desk.report(raw)
    caller = desk.world.host("alpha").identity
    effects = desk.core.handle(Requested("adopt", caller, report, "report", payload_hash(report)), NOW)
    assert not [effect for effect in effects if isinstance(effect, Refuse)]
    log = next(effect.log for effect in effects if isinstance(effect, Append))
    assert [e for e in desk.core.handle(Appended(log), NOW) if isinstance(e, Refuse)]


# ---- rights


def test_no_rights_where_the_operator_gives_none_or_the_list_is_too_long(world: World, monkeypatch: pytest.MonkeyPatch):
    """None is what a service with rules of its own gives (`service.py`)."""
    for settings in (Settings(distributors=()), Settings(distributors=("*/host/beta",))):
        assert not Reported(world, settings=settings).gsa.HasField("distribution_right")
    monkeypatch.setattr(group_answers, "ACCESS_LIST_SIZE", 10)
    assert not Reported(world).gsa.HasField("distribution_right")


def renew(desk: Reported, host: str = "alpha", **fields: Any) -> tuple[wire.RenewResponse, SealingKey]:
    key = SealingKey.generate("x25519")
    request = wire.RenewRequest(group_id=desk.group_id, **{"hpke_public_key": key.public, **fields})
    return desk.ask("renew", request, desk.world.host(host)), key


def test_a_renewal_brings_the_right_and_the_list_where_that_is_another(desk: Reported):
    response, key = renew(desk)
    raw = unseal_access_list(key, desk.request_hash, response.sealed_access_list)
    assert raw == desk.gsa.access_list
    response, _ = renew(desk, access_list=access_list_hash(raw))
    assert response.HasField("distribution_right") and not response.sealed_access_list
    assert refused(renew, desk, hpke_public_key=b"short").code == "key-material"
    response, _ = renew(desk, "delta")
    assert response.register_again and not response.HasField("distribution_right")


def test_a_block_is_given_only_when_it_is_stored(desk: Reported):
    block = desk.group.blocks.of(desk.host("alpha"))
    block.given_in = desk.group.told.number + 1
    response, _ = renew(desk)
    assert not response.HasField("distribution_right")
    block.given_in -= 1
    response, _ = renew(desk)
    assert response.HasField("distribution_right")


def test_half_of_the_sender_ids_are_for_who_registers_here(desk: Reported, monkeypatch: pytest.MonkeyPatch):
    from services.authorizer import blocks

    monkeypatch.setattr(blocks, "GIVEN_BELOW", desk.group.sender_ids.next + SENDER_IDS)
    assert not desk.register("gamma").HasField("distribution_right")
    assert desk.trusts()


def test_a_late_deadline_does_not_make_an_old_report_young(desk: Reported):
    raw = desk.envelope(desk.asked("beta"), desk.world.host("beta"), deadline_at=NOW + HOURS)
    epoch = desk.group.epoch
    refusal = refused(desk.ask, "adopt", desk.report(raw))
    assert (refusal.code, refusal.rule) == ("envelope", "deadline")
    assert NOW + CLOCK_SKEW < NOW + HOURS
    assert desk.is_rekeyed(epoch)
