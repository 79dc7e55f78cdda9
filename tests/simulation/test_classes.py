"""Open and closed conferences (paper, section 2.3), and how the waiting period ends."""

from __future__ import annotations

import pytest

from mcsa.v1 import csm_pb2 as wire
from mcsa.v1.types_pb2 import POLICY_CLASS_OPEN
from tests.simulation.conference import ConferenceDomain
from tests.simulation.test_conferences import run_until_keyed


def test_an_open_conference_takes_in_any_verifiable_user():
    domain = ConferenceDomain(hosts=("alpha", "beta", "delta"))
    alice = domain.application("alpha", "alice")
    conference_id = alice.convene((), wait=1.0, policy_class=POLICY_CLASS_OPEN)
    mallory = domain.application("delta", "mallory")
    mallory.join(conference_id)
    run_until_keyed(domain, [alice, mallory], 20.0)
    bob = domain.application("beta", "bob")
    bob.join(conference_id)
    run_until_keyed(domain, [alice, mallory, bob], 20.0)


def test_a_closed_conference_takes_in_those_that_are_named():
    domain = ConferenceDomain(hosts=("alpha", "delta"))
    alice = domain.application("alpha", "alice")
    conference_id = alice.convene(("bob",), wait=60.0)
    mallory = domain.application("delta", "mallory")
    refused = mallory.refusal_of("join", wire.JoinRequest(user=mallory._key, conference_id=conference_id))
    assert refused.rule == "closed-group-admits-acceptable-users-only"
    assert domain.msm["delta"].core.memberships == {}


@pytest.mark.parametrize("how", ["time", "presence", "hand"])
def test_the_waiting_period_ends_by_time_by_presence_or_by_hand(how: str):
    domain = ConferenceDomain(hosts=("alpha", "beta"))
    alice = domain.application("alpha", "alice")
    wait = 10.0 if how == "time" else 600.0
    conference_id = alice.convene(("bob",), wait=wait, expected=("bob",) if how == "presence" else ())
    bob = domain.application("beta", "bob")
    bob.join(conference_id)
    joined_at = domain.network.now
    if how == "hand":
        domain.network.run_for(5.0)
        assert alice.participant.view().state == "announced"
        alice.ask("call", wire.ConferenceServiceCallRequest(conference_id=conference_id))
    run_until_keyed(domain, [alice, bob], 30.0)
    waited = domain.network.now - joined_at
    assert (waited > 9.0) == (how == "time")
    assert (waited < 1.0) == (how == "presence")


def test_a_scheme_that_the_coordinators_host_does_not_run_is_refused_at_once():
    domain = ConferenceDomain(hosts=("alpha",))
    alice = domain.application("alpha", "alice")
    refused = alice.refusal_of("convene", wire.ConveneRequest(user=alice._key, title="a conference", ckgds=["rot13"]))
    assert refused.code == "ckgds"
    assert "bd, central" in refused.sentence
    assert domain.msm["alpha"].core.memberships == {}
