"""Two domains on one network: what a host of B makes of a conference that is at home in A."""

from __future__ import annotations

from itertools import count

import pytest

from mcsa.endpoint import Request
from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.suite import suite_named
from mcsa.v1 import csm_pb2 as wire
from mcsa.v1 import msm_pb2
from mcsa.v1.authorizer_pb2 import Countersignature, RegisterRequest
from mcsa.v1.types_pb2 import POLICY_CLASS_OPEN
from services.msm.events import InstallEpoch, SetRoster, SwitchSending
from services.msm.path import Received
from tests.simulation.conference import Application
from tests.simulation.domain import Domain
from tests.simulation.network import Frame
from tests.simulation.nodes import AskingNode
from tests.simulation.test_groups import gathered, heard
from tests.simulation.two_domains import TwoDomains


@pytest.fixture
def two() -> TwoDomains:
    return TwoDomains(hosts_b=("beta", "gamma"))


def convened(two: TwoDomains, *acceptable: str, **more: object) -> bytes:
    """Alice of A convenes, with Bob and Bela of B on her list unless others are; the conference's id."""
    named = acceptable or ("spiffe://b.example/user/bob", "spiffe://b.example/user/bela")
    return two.a.application("alpha", "alice").convene(named, **more)  # type: ignore[arg-type]


def session(application: Application, conference_id: bytes) -> msm_pb2.Session:
    listed = application.ask("list-sessions", wire.ConferenceServiceListSessionsRequest())
    (found,) = [session for session in listed.sessions if session.conference_id == conference_id]
    assert isinstance(found, msm_pb2.Session)
    return found


SEEDS = count(5)


def asking(two: TwoDomains, host: str = "beta") -> AskingNode:
    """Asks the MSM of a host of B, as its CSM does."""
    return AskingNode(two.b.world, two.b.switchboard, host, next(SEEDS))


def bus(two: TwoDomains, verb: str) -> list[Frame]:
    return [frame for frame in two.network.frames if frame.way == "bus" and frame.destination.endswith(f".{verb}")]


# ---- up to B's Authorizer


def test_b_hears_a_s_announcement_and_takes_its_registration_to_its_own_authorizer(two: TwoDomains) -> None:
    conference_id = convened(two)
    two.tell_b_of(conference_id)
    bob = two.b.application("beta", "bob")
    found = session(bob, conference_id)
    assert found.verified and found.authorizer == str(two.a.world.authorizer.id), found.remark
    before = len(bus(two, "register"))
    refusal = bob.refusal_of("join", wire.JoinRequest(user=wire.UserKey(path="bob"), conference_id=conference_id))
    assert refusal.code == "unknown-group"
    assert {frame.source for frame in bus(two, "register")[before:]} == {"msm-beta"}
    assert two.b.authorizer.endpoint.counters["refused.unknown-group"] == 1
    assert not two.a.authorizer.endpoint.counters["refused.unknown-group"]
    assert not two.b.msm["beta"].core.memberships and not two.b.msm["beta"].paths


def test_a_conference_that_b_s_authorizer_does_not_know_is_not_verified(two: TwoDomains) -> None:
    found = session(two.b.application("beta", "bob"), convened(two))
    assert not found.verified and found.remark == "its Authorizer does not know it, or is out of reach"


def test_without_a_s_anchors_its_coordinator_is_nobody() -> None:
    two = TwoDomains()
    conference_id = convened(two)
    two.tell_b_of(conference_id)
    two.b.world.peers.clear()
    two.b.add_host("epsilon")
    assert not session(two.b.application("epsilon", "bob"), conference_id).verified
    assert session(two.b.application("beta", "bob"), conference_id).verified


def test_without_a_line_a_host_takes_no_keys_of_a_and_asks_nobody() -> None:
    two = TwoDomains()
    conference_id = convened(two)
    two.tell_b_of(conference_id)
    two.b._accepts = ()
    two.b.add_host("epsilon")
    found = session(two.b.application("epsilon", "bob"), conference_id)
    assert not found.verified and "not one that this host accepts" in found.remark
    assert not two.b.authorizer.endpoint.counters["refused.unknown-conference"]


def test_a_host_of_b_that_goes_to_a_s_authorizer_directly_gets_no_answer_and_is_counted(two: TwoDomains) -> None:
    stray = AskingNode(two.b.world, two.a.switchboard, "beta", 7)
    authorizer = str(two.a.world.authorizer.id)
    stray.event(Request("authorizer", "register", RegisterRequest(), authorizer, "token"))
    two.network.run_for(20.0)
    refused = stray.core.outcomes["token"].refused
    assert refused is not None and refused.code == "no-answer"
    assert two.a.authorizer.endpoint.counters["rejected.certificate"] > 0


# ---- served by B's Authorizer


def joined(two: TwoDomains, conference_id: bytes) -> bytes:
    """Bob and Bela of B have joined the control group through their own Authorizer; its id."""
    group = two.a.authorizer.core.conferences[conference_id].groups[0]
    home = str(two.a.world.authorizer.id)
    for host, user in (("beta", "bob"), ("gamma", "bela")):
        node = asking(two, host)
        outcome = node.join(group, conference_id, user, home)
        assert outcome.refused is None, outcome.refused
        node.kill()
    two.network.run_for(1.0)
    return group.group_id


def test_hosts_of_b_are_members_of_a_s_group_by_the_word_of_their_own_authorizer(two: TwoDomains) -> None:
    conference_id = convened(two)
    two.serve_in_b(conference_id)
    group_id = joined(two, conference_id)
    for name in ("beta", "gamma"):
        membership = two.b.msm[name].core.memberships[group_id]
        assert (membership.home, membership.authorizer) == (
            str(two.a.world.authorizer.id),
            str(two.b.world.authorizer.id),
        )
        two.network.run_for(30.0)  # beacons are those of B's Authorizer
        assert membership.state == "member"
    assert two.b.msm["beta"].send(group_id, b"hello", 9_000)
    two.network.run_for(0.5)
    assert [received.payload for received in two.b.msm["gamma"].received[group_id]][-1:] == [b"hello"]
    assert not two.a.authorizer.endpoint.counters["rejected.certificate"]


def test_the_multicast_of_b_s_authorizer_is_heard_under_the_domain_of_a(two: TwoDomains) -> None:
    conference_id = convened(two)
    two.serve_in_b(conference_id)
    group_id = joined(two, conference_id)
    two.b.switchboard.nodes.remove(two.b.authorizer)
    two.b.authorizer.switchboard.publish = lambda *_: None  # type: ignore[method-assign]
    group = two.b.authorizer.core.groups[group_id]
    epoch = group.epoch
    two.b.age_key(group_id)
    two.network.run_for(2.0)
    assert group.epoch > epoch
    assert two.b.msm["beta"].core.memberships[group_id].epoch == group.epoch


def test_an_open_conference_of_a_is_open_in_b_to_those_that_are_named_only(two: TwoDomains) -> None:
    conference_id = convened(two, "spiffe://b.example/user/bob", policy_class=POLICY_CLASS_OPEN)
    two.serve_in_b(conference_id)
    home = str(two.a.world.authorizer.id)
    group = two.a.authorizer.core.conferences[conference_id].groups[0]
    node = asking(two)
    refused = node.join(group, conference_id, "bela", home).refused
    assert refused is not None and refused.rule == "users-of-peers-by-name-only"
    assert node.join(group, conference_id, "bob", home).refused is None


def test_another_home_than_announced_is_no_association(two: TwoDomains) -> None:
    """Keys would derive under a domain that the others don't use."""
    conference_id = convened(two)
    two.serve_in_b(conference_id)
    group = two.a.authorizer.core.conferences[conference_id].groups[0]
    own = str(two.b.world.authorizer.id)
    two.b.authorizer.core.conferences[conference_id].authorizer = own  # so that the statement is accepted
    refused = asking(two).join(group, conference_id, "bob", own).refused
    assert refused is not None and (refused.code, refused.rule) == ("association", "association")
    assert "at home at another Authorizer" in refused.sentence


def test_records_of_b_s_hosts_are_countersigned_by_b_s_authorizer(two: TwoDomains) -> None:
    conference_id = convened(two)
    two.serve_in_b(conference_id)
    joined(two, conference_id)
    asked = msm_pb2.CountersignRecordRequest(
        conference_id=conference_id, head=bytes(32), authorizer=str(two.a.world.authorizer.id)
    )
    outcome = asking(two).ask("countersign-record", asked)
    signed = outcome.message.countersignature
    signer = two.b.world.trust().open_statement(signed, "mcsa countersignature v1", two.network.now, "authorizer")
    assert str(signer.id) == str(two.b.world.authorizer.id)
    assert Countersignature.FromString(signed.statement).host == "spiffe://b.example/host/beta"


def test_certificates_come_from_who_serves_and_are_of_one_of_the_two(two: TwoDomains) -> None:
    conference_id = convened(two)
    two.tell_b_of(conference_id)
    node = asking(two)
    asked = msm_pb2.FetchCertificateRequest(conference_id=conference_id, authorizer=str(two.a.world.authorizer.id))
    found = node.ask("fetch-certificate", asked).message
    assert list(found.authorizer_chain) == list(two.b.world.authorizer.chain)
    assert list(found.coordinator_chain) == list(two.a.world.user("alice").chain)
    two.b.authorizer.core._credentials = two.a.world.authorizer  # as a subordinate may pass it on
    assert node.ask("fetch-certificate", asked).refused is None
    two.b.authorizer.core._credentials = two.a.world.credentials("authorizer", "other")
    refused = node.ask("fetch-certificate", asked).refused
    assert refused is not None and (refused.code, refused.rule) == ("answer", "sender")


# ---- packets


def test_packets_of_two_domains_open_each_other_under_one_group_key(two: TwoDomains) -> None:
    """The key is put into B's host by hand, where a subordinate Authorizer will put it."""
    conference_id = convened(two)
    two.serve_in_b(conference_id)
    group_id = joined(two, conference_id)
    key, epoch = two.a.authorizer.core.groups[group_id].key, two.a.authorizer.core.groups[group_id].epoch
    alpha, beta = two.a.msm["alpha"], two.b.msm["beta"]
    ours, theirs = alpha.core.memberships[group_id].sender_id, 900
    assert ours is not None
    addresses = {ours: alpha.address, theirs: beta.address}
    alpha.paths[group_id].carry_out(SetRoster(group_id, addresses, ours, None), two.network.now)
    for effect in (
        InstallEpoch(group_id, epoch, key),
        SetRoster(group_id, addresses, theirs, None),
        SwitchSending(group_id, epoch, theirs),
    ):
        beta.paths[group_id].carry_out(effect, two.network.now)
    for node in (alpha, beta):
        node.received[group_id].clear()
        assert node.send(group_id, node.name.encode(), 9_000)
    two.network.run_for(0.5)
    assert [received.payload for received in alpha.received[group_id]] == [b"msm-beta"]
    assert b"msm-alpha" in [received.payload for received in beta.received[group_id]]


def test_in_one_domain_keys_derive_under_its_own_name_as_ever() -> None:
    domain = Domain(hosts=("alpha", "beta"))
    group_id = gathered(domain, "alpha", "beta")
    group, sender_id = domain.authorizer.core.groups[group_id], domain.msm["alpha"].core.memberships[group_id].sender_id
    assert sender_id is not None
    suite = suite_named(group.policy.suite)
    key = derive_traffic_key(group.key, "example.org", group_id, group.epoch, suite, sender_id)
    packet = OutboundAssociation(key).seal(b"by hand", 5004, 5004)
    beta = domain.msm["beta"]
    (opened,) = beta.paths[group_id].open(packet, domain.msm["alpha"].address, domain.network.now)
    assert isinstance(opened, Received) and opened.payload == b"by hand"
    assert heard(beta, group_id) == []
