"""What participants, outsiders and the Authorizer must not get away with; and garbage, on every way in."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from mcsa.endpoint import Published
from mcsa.statements import EVICTION_LABEL
from mcsa.v1 import csm_pb2 as wire
from mcsa.v1.authorizer_pb2 import Eviction
from mcsa.v1.conference_pb2 import (
    Absence,
    Closing,
    ConferenceCall,
    ControlMessage,
    Ejection,
    Fragment,
    ProcessAnnouncement,
    RunStart,
)
from mcsa.v1.msm_pb2 import GroupChanged
from tests.sap.parts import foreign
from tests.simulation.conference import Application, ConferenceDomain
from tests.simulation.test_conferences import all_hold_one_key, convened, run_until_keyed
from tests.world import World


@pytest.fixture
def domain() -> ConferenceDomain:
    return ConferenceDomain(hosts=("alpha", "beta", "gamma", "delta"))


@pytest.fixture
def keyed(domain: ConferenceDomain) -> list[Application]:
    applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    return applications


def counted(application: Application, name: str) -> int:
    return application.node.endpoint.counters[name]


def eviction(domain: ConferenceDomain, conference_id: bytes, signer: str, subject: str) -> Ejection:
    said = Eviction(conference_id=conference_id, subject=subject, time_ms=round(domain.network.now * 1000))
    return Ejection(eviction=domain.world.user(signer).sign_statement(EVICTION_LABEL, said.SerializeToString()))


def test_who_is_not_the_coordinator_neither_calls_nor_ejects_nor_closes(
    domain: ConferenceDomain, keyed: list[Application]
):
    alice, bob, carol = keyed
    epoch = carol.participant.view().key_epoch
    terms = bob.participant.terms
    call = ConferenceCall(description_hash=terms.hash, attempt=2_000_000_000, ckgds=["bd"], nonce=bytes(16))
    ejection = eviction(domain, bob.conference_id, "bob", str(carol.user.id))
    for kind, message in (
        ("call", ControlMessage(call=call)),
        ("run_start", ControlMessage(run_start=RunStart(run=2_000_000_000, ckgds="bd"))),
        ("ejection", ControlMessage(ejection=ejection)),
        ("closing", ControlMessage(closing=Closing())),
        ("absence", ControlMessage(absence=Absence(user=str(carol.user.id)))),
    ):
        bob.say_control(message)
        domain.network.run_for(1.0)
        assert counted(carol, f"rejected.not-coordinator.{kind}") == 1
    assert carol.participant.view().key_epoch == epoch
    assert carol.participant.view().state == "active" and alice.participant.view().state == "active"


def test_an_ejection_is_the_coordinators_own_statement_about_this_conference(
    domain: ConferenceDomain, keyed: list[Application]
):
    alice, bob, carol = keyed
    subject = str(carol.user.id)
    alice.say_control(ControlMessage(ejection=eviction(domain, b"x" * 16, "alice", subject)))
    alice.say_control(ControlMessage(ejection=eviction(domain, alice.conference_id, "bob", subject)))
    broken = eviction(domain, alice.conference_id, "alice", subject)
    broken.eviction.signature = bytes(64)
    alice.say_control(ControlMessage(ejection=broken))
    domain.network.run_for(2.0)
    assert counted(bob, "rejected.ejection.meaning") == 2
    assert counted(bob, "rejected.ejection.signature") == 1
    assert all_hold_one_key([alice, bob, carol])


def changed_start(change: Callable[[RunStart], None]) -> Callable[[ControlMessage], None]:
    def apply(message: ControlMessage) -> None:
        if message.HasField("run_start"):
            change(message.run_start)

    return apply


STARTS: dict[str, tuple[str, Callable[[RunStart], None]]] = {
    "another process of ours": ("not-in-roster", lambda start: _set(start, "process_id", b"z" * 16)),
    "a nonce that we didn't send": ("nonce", lambda start: _set(start, "nonce", b"z" * 16)),
    "another certificate of ours": ("fingerprint", lambda start: _set(start, "certificate_fingerprint", bytes(32))),
    "other terms": ("policy", lambda start: setattr(start, "policy_hash", bytes(32))),
    "a key scheme below our floor": ("floor", lambda start: setattr(start, "ckgds", "rot13")),
    "an old epoch": ("epoch", lambda start: setattr(start, "key_epoch", 1)),
    "an old run": ("epoch", lambda start: setattr(start, "run", 1)),
    "who was thrown out in the roster": ("ejected", lambda start: start.ejected.append(start.roster[0].user)),
    "somebody twice": ("roster", lambda start: start.roster.append(start.roster[0])),
}


def _set(start: RunStart, field: str, value: bytes) -> None:
    for member in start.roster:
        if member.user.endswith("/bob"):
            setattr(member, field, value)


@pytest.mark.parametrize("name", sorted(STARTS))
def test_a_coordinator_that_cheats_at_the_start_of_a_run_gets_no_run(
    domain: ConferenceDomain, keyed: list[Application], name: str
):
    cause, change = STARTS[name]
    alice, bob, _ = keyed
    before = bob.participant.view().key_epoch
    honest = alice.participant.streams.send

    def cheating(message: ControlMessage, now: float):
        changed_start(change)(message)
        return honest(message, now)

    alice.participant.streams.send = cheating
    alice.call_anew()
    domain.network.run_for(2.0)
    assert counted(bob, f"rejected.run-start.{cause}") >= 1
    assert bob.participant.view().key_epoch == before


def test_a_run_that_forgets_an_ejection_is_not_begun(domain: ConferenceDomain, keyed: list[Application]):
    alice, bob, _ = keyed
    alice.eject("carol")
    run_until_keyed(domain, [alice, bob])
    before = bob.participant.view().key_epoch
    alice.participant.ejected.clear()
    alice.call_anew()
    domain.network.run_for(3.0)
    assert counted(bob, "rejected.run-start.ejected") >= 1
    assert bob.participant.view().key_epoch == before


def test_a_call_for_other_terms_or_of_the_past_is_not_answered(domain: ConferenceDomain, keyed: list[Application]):
    alice, bob, _ = keyed
    terms = alice.participant.terms
    alice.say_control(ControlMessage(call=ConferenceCall(description_hash=bytes(32), attempt=2_000_000_000)))
    alice.say_control(ControlMessage(call=ConferenceCall(description_hash=terms.hash, attempt=1)))
    domain.network.run_for(1.0)
    assert counted(bob, "rejected.call.description") == 1
    assert counted(bob, "rejected.call.attempt") == 1


def test_a_confederate_that_the_authorizer_admits_gets_no_conference_key(
    domain: ConferenceDomain, keyed: list[Application]
):
    """The Authorizer lets mallory into the groups of a closed conference. The Coordinator has its own list."""
    alice, bob, carol = keyed
    conference = domain.authorizer.core.conferences[alice.conference_id]
    conference.access.acceptable_users.append(str(domain.world.user("mallory").id))
    conference._resource = None  # the Authorizer is the attacker here
    mallory = domain.application("delta", "mallory")
    mallory.join(alice.conference_id)
    domain.network.run_for(10.0)
    assert counted(alice, "rejected.control.not-permitted") > 0
    assert mallory.keys == {}
    assert str(mallory.user.id) not in alice.participant.view().participants
    alice.say(b"not for mallory")
    domain.network.run_for(2.0)
    assert ("alice", b"not for mallory") in bob.heard and ("alice", b"not for mallory") in carol.heard
    assert mallory.heard == []


def test_nobody_takes_the_sframe_key_id_of_another(domain: ConferenceDomain, keyed: list[Application]):
    alice, bob, _ = keyed
    application_id, (_, key_id) = next(iter(alice.participant.attached.processes.items()))
    announcement = ProcessAnnouncement(application_id=application_id, key_id=key_id)
    bob.say_control(ControlMessage(process_announcement=announcement))
    domain.network.run_for(1.0)
    assert counted(alice, "rejected.process.key-id") == 1
    assert alice.participant.attached.processes[application_id][0] == str(alice.user.id)


def test_garbage_in_the_control_group_is_dropped_and_counted(domain: ConferenceDomain, keyed: list[Application]):
    alice, bob, carol = keyed
    good = Fragment(
        conference_id=bob.conference_id,
        process_id=b"q" * 16,
        user=str(bob.user.id),
        sequence=1,
        count=1,
        body=b"x",
        signature=bytes(64),
        certificate_chain=bob.user.chain,
    )
    foreign = World("example.org")
    stranger = Fragment()
    stranger.CopyFrom(good)
    del stranger.certificate_chain[:]
    stranger.certificate_chain.extend(foreign.user("bob").chain)
    other = Fragment()
    other.CopyFrom(good)
    other.conference_id = b"x" * 16
    for datagram in (b"", b"\xff" * 40, good.SerializeToString()[:30], good.SerializeToString(), os.urandom(1_300)):
        bob.send_control(datagram)
    bob.send_control(stranger.SerializeToString())
    bob.send_control(other.SerializeToString())
    domain.network.run_for(1.0)
    rejected = {name: n for name, n in alice.node.endpoint.counters.items() if name.startswith("rejected.control.")}
    assert sum(rejected.values()) >= 6
    assert rejected["rejected.control.signature"] == 1
    assert rejected["rejected.control.certificate"] == 1
    assert rejected["rejected.control.conference"] == 1
    alice.say(b"nothing happened")
    domain.network.run_for(1.0)
    assert ("alice", b"nothing happened") in carol.heard


def test_another_hosts_msm_tells_us_nothing(domain: ConferenceDomain, keyed: list[Application]):
    alice, _, carol = keyed
    group_id = alice.participant.terms.control.group_id
    ejected = GroupChanged(group_id=group_id, change="ejected")
    carol.node.event(Published("mcsa.v1.csm.gamma.group-changed", domain.world.host("beta").identity, ejected))
    assert counted(carol, "rejected.group-changed.sender") == 1
    assert carol.participant.view().state == "active"


# ---- applications


def test_requests_that_make_no_sense_are_refused_with_a_sentence(domain: ConferenceDomain, keyed: list[Application]):
    alice, bob, _ = keyed
    stranger = domain.application("delta", "mallory")
    for application, verb, message, rule in (
        (alice, "attach", wire.AttachRequest(conference_id=alice.conference_id, application_id=b"short"), "id"),
        (alice, "attach", wire.AttachRequest(conference_id=b"x" * 16), "participation"),
        (alice, "send", wire.SendRequest(conference_id=alice.conference_id, sframe=bytes(70_000)), "sealed-message"),
        (
            alice,
            "eject",
            wire.EjectRequest(conference_id=alice.conference_id, subject=str(alice.user.id)),
            "not-oneself",
        ),
        (bob, "call", wire.ConferenceServiceCallRequest(conference_id=bob.conference_id), "coordinator-only-call"),
        (stranger, "join", wire.JoinRequest(user=stranger._key, conference_id=b"x" * 16), "directory"),
        (stranger, "leave", wire.ConferenceServiceLeaveRequest(conference_id=b"x" * 16), "participation"),
    ):
        refused = application.refusal_of(verb, message)
        assert refused.rule == rule, verb
        assert len(refused.sentence) > 10


def test_without_a_key_there_is_nothing_to_seal_under(domain: ConferenceDomain):
    alice = domain.application("alpha", "alice")
    conference_id = alice.convene(("bob",), wait=60.0)
    refused = alice.refusal_of("send", wire.SendRequest(conference_id=conference_id, sframe=b"x"))
    assert (refused.code, refused.rule) == ("no-key", "announced")


def test_an_announcement_that_is_not_its_coordinators_is_not_joined(domain: ConferenceDomain):
    alice = domain.application("alpha", "alice")
    conference_id = alice.convene(("bob",), wait=60.0)
    announced = domain.directory.endpoint.core.announced  # type: ignore[attr-defined]
    ((key, sdp),) = announced.items()
    announced[key] = sdp.replace(b"s=a conference", b"s=a Conference")
    bob = domain.application("beta", "bob")
    refused = bob.refusal_of("join", wire.JoinRequest(user=bob._key, conference_id=conference_id))
    assert refused.code == "unverified-session"
    assert "signature" in refused.sentence


def test_no_key_scheme_that_all_accept_ends_the_conference_with_a_reason(domain: ConferenceDomain):
    object.__setattr__(domain.csms["beta"].core.setting, "floor", ("central",))
    alice = domain.application("alpha", "alice")
    conference_id = alice.convene(("bob",), ckgds=("bd",))
    bob = domain.application("beta", "bob")
    bob.join(conference_id)
    domain.network.run_until(lambda: alice.state.state == "failed", 20.0)
    assert "no key scheme that all accept" in alice.state.reason


def test_a_flood_of_announcements_hides_none_of_ours(domain: ConferenceDomain):
    announced = domain.directory.endpoint.core.announced  # type: ignore[attr-defined]
    for number in range(300):
        announced[b"before %d" % number] = foreign(f"flood {number} " + "x" * 700, session=number)
    alice = domain.application("alpha", "alice")
    conference_id = alice.convene(("bob",), wait=60.0)
    bob = domain.application("beta", "bob")
    listed = bob.ask("list-sessions", wire.ConferenceServiceListSessionsRequest()).sessions
    assert [session.verified for session in listed if session.conference_id == conference_id] == [True]
    assert 100 < len(listed) < 301
    bob.join(conference_id)


def test_announcements_in_the_authorizers_name_cost_it_little(domain: ConferenceDomain):
    """A hundred forged ones: each listing asks for a few, and not again for what was unknown."""
    alice = domain.application("alpha", "alice")
    conference_id = alice.convene(("bob",), wait=60.0)
    announced = domain.directory.endpoint.core.announced  # type: ignore[attr-defined]
    ((_, genuine),) = announced.items()
    announced.clear()
    for number in range(100):
        announced[b"forged %d" % number] = genuine.replace(
            conference_id.hex().encode(), bytes([number]).hex().encode() * 16
        )
    announced[b"genuine"] = genuine
    bob = domain.application("beta", "bob")

    def asked() -> int:
        return sum(frame.destination == "mcsa.v1.authorizer.beta.certificate" for frame in domain.network.frames)

    verified: list[int] = []
    for _ in range(6):
        listed = bob.ask("list-sessions", wire.ConferenceServiceListSessionsRequest()).sessions
        verified.append(sum(session.verified for session in listed))
    assert asked() == 101
    assert verified[-1] == 1
