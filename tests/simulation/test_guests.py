"""A user of B as a guest on a host of A: from the registration to the record, in a conference with users of A."""

from __future__ import annotations

import pytest

from mcsa.errors import Refused, Rejected
from mcsa.record.verify import verify_record
from mcsa.v1 import csm_pb2 as wire
from mcsa.v1.types_pb2 import POLICY_CLASS_OPEN
from tests.simulation.conference import Application, ConferenceDomain
from tests.simulation.network import START
from tests.simulation.test_conferences import HOSTS, convened, run_until_keyed
from tests.world import World


def a_and_its_guest(*, peers: bool = True) -> ConferenceDomain:
    """A domain in which "bob" is somebody of B."""
    a, b = World("a.example", START), World("b.example", START)
    if peers:
        a.peers.append(b)
    a.lend("user", "bob", b)
    return ConferenceDomain(hosts=tuple(HOSTS.values()), world=a)


def test_a_guest_takes_part_in_the_key_talks_and_can_not_deny_it() -> None:
    domain = a_and_its_guest()
    alice, bob, carol = applications = convened(domain, "bob", "carol")
    assert str(bob.user.id) == "spiffe://b.example/user/bob"
    run_until_keyed(domain, applications)
    bob.say(b"greetings", receipt=True)
    domain.network.run_for(1.0)
    assert ("bob", b"greetings") in alice.heard and ("bob", b"greetings") in carol.heard
    alice.leave()
    domain.network.run_for(5.0)
    without = World("a.example", START)
    without.authority = domain.world.authority
    for application in applications:
        (record,) = application.node.disk.records.values()
        findings = verify_record(record, domain.world.trust())
        assert findings.countersigned and findings.complete
        assert str(bob.user.id) in {one.user for one in findings.participants}
        with pytest.raises(Rejected, match="certificate"):
            verify_record(record, without.trust())


def test_a_guest_is_ejected_like_anybody() -> None:
    domain = a_and_its_guest()
    alice, bob, carol = applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    alice.eject("bob")
    run_until_keyed(domain, [alice, carol])
    assert bob.state.state == "failed" and "thrown out" in bob.state.reason


def test_without_its_domain_as_peer_a_guest_is_nobody() -> None:
    domain = a_and_its_guest(peers=False)
    conference_id = domain.application("alpha", "alice").convene(("bob",))
    refusal = _refusal(domain.application("beta", "bob"), conference_id)
    assert (refusal.code, refusal.rule) == ("user-statement", "user-statement.certificate")


def test_an_open_conference_is_not_open_to_a_guest() -> None:
    domain = a_and_its_guest()
    conference_id = domain.application("alpha", "alice").convene((), policy_class=POLICY_CLASS_OPEN)
    assert _refusal(domain.application("beta", "bob"), conference_id).rule == "users-of-peers-by-name-only"
    domain.application("gamma", "carol").join(conference_id)


def test_a_guest_convenes_nothing() -> None:
    domain = a_and_its_guest()
    asked = wire.ConveneRequest(user=wire.UserKey(path="bob"), title="a conference")
    assert domain.application("beta", "bob").refusal_of("convene", asked).rule == "users-of-peers-convene-at-home"


def _refusal(application: Application, conference_id: bytes) -> Refused:
    asked = wire.JoinRequest(user=wire.UserKey(path=application.user.id.name), conference_id=conference_id)
    return application.refusal_of("join", asked)
