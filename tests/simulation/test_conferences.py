"""Conferences in a simulated domain, step by step as in the paper's section 3.4, in good weather and in bad."""

from __future__ import annotations

import pytest

from mcsa.record.verify import verify_record
from mcsa.v1 import csm_pb2 as wire
from mcsa.v1.types_pb2 import POLICY_CLASS_OPEN
from tests.simulation.conference import Application, ConferenceDomain
from tests.simulation.network import START, Frame, Weather
from tests.world import World

HOSTS = {"alice": "alpha", "bob": "beta", "carol": "gamma"}


def convened(domain: ConferenceDomain, *others: str, ckgds: tuple[str, ...] = ()) -> list[Application]:
    """Alice's conference, with these others in it."""
    alice = domain.application("alpha", "alice")
    conference_id = alice.convene(("bob", "carol"), expected=others, ckgds=ckgds)
    applications = [alice]
    for name in others:
        application = domain.application(HOSTS[name], name)
        application.join(conference_id)
        applications.append(application)
    return applications


def all_hold_one_key(applications: list[Application]) -> bool:
    views = [application.participant.view() for application in applications]
    epochs = {(view.key_epoch, view.key_fingerprint) for view in views}
    names = sorted(str(application.user.id) for application in applications)
    return (
        len(epochs) == 1
        and views[0].key_epoch > 0
        and all(view.state == "active" and sorted(view.participants) == names for view in views)
    )


def run_until_keyed(domain: ConferenceDomain, applications: list[Application], within: float = 10.0) -> None:
    assert domain.network.run_until(lambda: all_hold_one_key(applications), within), [
        (application.participant.view().state, application.participant.view().reason) for application in applications
    ]


@pytest.mark.parametrize("ckgds", ["bd", "central"])
def test_three_users_agree_on_a_key_and_talk(ckgds: str):
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    applications = convened(domain, "bob", "carol", ckgds=(ckgds,))
    run_until_keyed(domain, applications)
    alice, bob, carol = applications
    assert alice.participant.view().ckgds == ckgds
    alice.say(b"welcome")
    bob.say(b"thank you", receipt=True)
    domain.network.run_for(1.0)
    assert ("alice", b"welcome") in bob.heard and ("alice", b"welcome") in carol.heard
    assert ("bob", b"thank you") in alice.heard and ("bob", b"thank you") in carol.heard


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_lossy_network_delays_the_key_and_changes_nothing_else(seed: int):
    weather = Weather(loss=0.2, duplication=0.1, jitter=0.03)
    domain = ConferenceDomain(seed, weather, hosts=("alpha", "beta", "gamma"))
    applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications, 60.0)
    for number in range(20):
        applications[number % 3].say(b"line %d" % number)
    domain.network.run_for(15.0)
    for index, application in enumerate(applications):
        own = {b"line %d" % number for number in range(20) if number % 3 == index}
        assert {content for _, content in application.heard} == {b"line %d" % n for n in range(20)} - own


def test_who_joins_late_gets_a_key_of_its_own_and_nothing_said_before():
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    alice, bob = convened(domain, "bob")
    run_until_keyed(domain, [alice, bob])
    first = alice.participant.view().key_fingerprint
    alice.say(b"before")
    domain.network.run_for(1.0)
    carol = domain.application("gamma", "carol")
    carol.join(alice.conference_id)
    run_until_keyed(domain, [alice, bob, carol])
    alice.say(b"after")
    domain.network.run_for(8.0)
    assert alice.participant.view().key_fingerprint != first
    assert carol.heard == [("alice", b"after")]
    assert [content for _, content in bob.heard] == [b"before", b"after"]


def test_who_is_ejected_has_neither_group_key_nor_conference_key_of_the_next_epoch():
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    alice, bob, carol = applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    before = carol.participant.view().key_epoch
    epochs = alice.eject("carol").epochs
    run_until_keyed(domain, [alice, bob])
    alice.say(b"she is gone")
    domain.network.run_for(2.0)
    assert bob.heard == [("alice", b"she is gone")]
    assert carol.heard == []
    assert carol.state.state == "failed" and "thrown out" in carol.state.reason
    assert max(carol.keys) == before < alice.participant.view().key_epoch
    assert epochs[0] == domain.msm["alpha"].core.memberships[alice.participant.terms.control.group_id].epoch
    refused = carol.refusal_of("join", wire.JoinRequest(user=carol._key, conference_id=alice.conference_id))
    assert refused.rule == "unacceptable-user"


@pytest.mark.parametrize("name", ["bobb", "Bob", "spiffe://elsewhere.example/user/bob"])
def test_a_name_that_is_nobodys_throws_nobody_out_and_says_so(name: str):
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    alice, bob, carol = applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    before, recorded = alice.participant.view().key_epoch, len(alice.participant.record)
    subject = name if ":" in name else str(bob.user.id).replace("bob", name)
    asked = wire.EjectRequest(conference_id=alice.conference_id, subject=subject)
    refused = alice.refusal_of("eject", asked)
    assert refused.code == "unknown-user"
    assert f"there is no {subject} in this conference" in refused.sentence
    assert str(carol.user.id) in refused.sentence
    domain.network.run_for(5.0)
    assert alice.participant.view().key_epoch == before
    assert len(alice.participant.record) == recorded
    assert bob.state.state == "active"


def test_who_has_not_come_yet_can_be_thrown_out_and_a_stranger_be_banned():
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    alice = domain.application("alpha", "alice")
    alice.convene(("bob", "carol"), policy_class=POLICY_CLASS_OPEN, expected=("bob",))
    bob = domain.application("beta", "bob")
    bob.join(alice.conference_id)
    run_until_keyed(domain, [alice, bob], 30.0)
    alice.eject("carol")  # it may come by name
    stranger = wire.EjectRequest(conference_id=alice.conference_id, subject=str(domain.world.user("mallory").id))
    assert alice.refusal_of("eject", stranger).code == "unknown-user"
    alice.eject("mallory", ban=True)
    for name in ("carol", "mallory"):
        late = domain.application("gamma", name)
        asked = wire.JoinRequest(user=late._key, conference_id=alice.conference_id)
        assert late.refusal_of("join", asked).rule == "unacceptable-user"


def test_only_the_coordinator_ejects():
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    bob = applications[1]
    subject = str(domain.world.user("carol").id)
    refused = bob.refusal_of("eject", wire.EjectRequest(conference_id=bob.conference_id, subject=subject))
    assert (refused.code, refused.rule) == ("not-allowed", "coordinator-only-eject")
    assert all_hold_one_key(applications)


def test_who_leaves_is_not_in_the_next_key():
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    alice, bob, carol = applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    carol.leave()
    run_until_keyed(domain, [alice, bob])
    assert carol.state.state == "closed"


def test_everybody_leaves_and_every_record_is_whole_and_countersigned():
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    alice, bob, carol = applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    alice.say(b"one")
    bob.say(b"two", receipt=True)
    domain.network.run_for(1.0)
    carol.leave()
    run_until_keyed(domain, [alice, bob])
    alice.leave()
    domain.network.run_for(5.0)
    assert bob.state.state == "closed"
    for application in applications:
        (record,) = application.node.disk.records.values()
        findings = verify_record(record, domain.world.trust())
        assert findings.countersigned and findings.complete
        assert not application.node.disk.remembered and not application.node.disk.keys
    assert not domain.msm["beta"].core.memberships


def test_a_restarted_csm_comes_back_by_itself_with_a_new_key():
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    alice, bob, carol = applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    first = alice.participant.view().key_epoch
    domain.restart_csm("beta")
    again = domain.application("beta", "bob")
    again.conference_id = bob.conference_id
    assert domain.network.run_until(
        lambda: bool(list(again.node.core.participants)) and all_hold_one_key([alice, again, carol]), 20.0
    )
    again.attach()
    alice.say(b"welcome back")
    domain.network.run_for(2.0)
    assert alice.participant.view().key_epoch > first
    assert ("alice", b"welcome back") in again.heard


def test_a_restarted_coordinator_calls_again():
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    alice, bob, carol = applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    domain.restart_csm("alpha")
    again = domain.application("alpha", "alice")
    again.conference_id = alice.conference_id
    assert domain.network.run_until(
        lambda: bool(list(again.node.core.participants)) and all_hold_one_key([again, bob, carol]), 30.0
    )


@pytest.mark.parametrize("host", ["alpha", "beta"])
def test_a_restarted_msm_is_registered_anew_and_the_talk_goes_on(host: str):
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    alice, bob, carol = applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    domain.restart_msm(host)
    domain.network.run_for(5.0)
    bob.say(b"still here")
    alice.say(b"so am I")
    domain.network.run_for(8.0)
    assert ("bob", b"still here") in carol.heard and ("bob", b"still here") in alice.heard
    assert ("alice", b"so am I") in bob.heard


def test_a_restarted_authorizer_costs_a_registration_and_no_conference_key():
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    alice, bob, carol = applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    epoch = alice.participant.view().key_epoch
    domain.restart_authorizer()
    domain.network.run_for(6.0)
    alice.say(b"still here")
    domain.network.run_for(5.0)
    assert ("alice", b"still here") in bob.heard and ("alice", b"still here") in carol.heard
    assert alice.participant.view().key_epoch == epoch


def test_without_the_broker_talk_and_a_run_of_the_key_scheme_go_on():
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    alice, bob, _ = applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    first = alice.participant.view().key_epoch
    domain.network.bus_up = False
    alice.say(b"no broker")
    domain.network.run_for(1.0)
    assert ("alice", b"no broker") in bob.heard
    alice.node.perform(
        alice.node.endpoint.carry_out(alice.participant.call_anew(domain.network.now), domain.network.now)
    )
    assert domain.network.run_until(lambda: alice.participant.view().key_epoch > first, 10.0)
    run_until_keyed(domain, applications)


def test_with_the_groups_packets_dropped_the_conference_fails_and_says_why():
    domain = ConferenceDomain(hosts=("alpha", "beta"))
    domain.network.drops.append(lambda frame, _host: frame.way == "multicast")
    alice = domain.application("alpha", "alice")
    conference_id = alice.convene(("bob",))
    bob = domain.application("beta", "bob")
    bob.join(conference_id)
    assert domain.network.run_until(lambda: alice.state.state == "failed" and bob.state.state == "failed", 60.0)
    assert "nobody answered the conference-call" in alice.state.reason
    assert "the Coordinator was not heard" in bob.state.reason


def test_a_participant_that_dies_is_absent_and_the_rest_get_a_key():
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    alice, bob, carol = applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    domain.csms["gamma"].kill()
    alice.eject("mallory", ban=True)  # any reason for a new run
    run_until_keyed(domain, [alice, bob], 30.0)
    assert alice.state.absent == [str(carol.user.id)]


def test_two_users_of_one_host_hear_each_other():
    domain = ConferenceDomain(hosts=("alpha", "beta"))
    alice = domain.application("alpha", "alice")
    conference_id = alice.convene(("bob", "carol"))
    bob, carol = domain.application("beta", "bob"), domain.application("beta", "carol")
    bob.join(conference_id)
    carol.join(conference_id)
    run_until_keyed(domain, [alice, bob, carol], 20.0)
    bob.say(b"hello neighbour")
    domain.network.run_for(1.0)
    assert ("bob", b"hello neighbour") in carol.heard and ("bob", b"hello neighbour") in alice.heard


def test_the_same_seed_gives_the_same_events_sizes_and_times():
    world = World(now=START)  # certificates are drawn by a library, and not always of one size

    def trace(seed: int) -> list[tuple[float, str, int]]:
        domain = ConferenceDomain(seed, Weather(loss=0.1), hosts=("alpha", "beta"), world=world)
        run_until_keyed(domain, convened(domain, "bob"), 30.0)
        return [(frame.at, frame.way, len(frame.raw)) for frame in domain.network.frames if frame.way == "multicast"]

    assert trace(5) == trace(5)
    assert trace(5) != trace(6)


def test_messages_of_a_run_that_overtake_its_beginning_are_not_lost():
    """Carol gets the conference-call, and what bob says in the run before she hears that the run has begun."""
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    alice, _bob, carol = applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    domain.network.run_for(1.0)
    first = carol.participant.view().key_epoch
    way = (domain.msm["alpha"].address, domain.msm["gamma"].address)
    said: list[Frame] = []

    def all_but_the_first(frame: Frame, host: str) -> bool:
        if frame.way != "multicast" or (frame.source, host) != way:
            return False
        said.append(frame)
        return len(said) > 1

    domain.network.drops.append(all_but_the_first)
    alice.call_anew()
    domain.network.run_for(0.1)
    domain.network.drops.clear()
    assert len(said) > 1
    assert domain.network.run_until(lambda: all_hold_one_key(applications), 3.0)  # far below a run's time
    assert carol.participant.view().key_epoch > first
