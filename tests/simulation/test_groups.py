"""Hosts, groups and keys in a simulated domain: the real cores, envelopes, packets; a virtual clock; a seed."""

from __future__ import annotations

import pytest

from mcsa.envelope import sign_envelope
from mcsa.policy import DEFAULTS
from mcsa.registration import sign_user_statement
from mcsa.updates import group_recipient
from mcsa.v1.authorizer_pb2 import Beacon, GroupMessage
from mcsa.v1.msm_pb2 import CreateSessionRequest, JoinGroupRequest, LeaveGroupRequest, PrepareJoinRequest
from mcsa.v1.types_pb2 import POLICY_CLASS_OPEN, GroupDescription, GroupPolicy
from tests.simulation.domain import Domain
from tests.simulation.network import START, Weather
from tests.simulation.nodes import AskingNode, MsmNode
from tests.world import World

USERS = {"alpha": "alice", "beta": "bob", "gamma": "carol", "mallory": "mallory"}


def gathered(domain: Domain, *hosts: str, policy: GroupPolicy | None = None, groups: int = 1) -> bytes:
    """A session that these hosts' users have joined; the first group's id."""
    created = domain.create(policy=policy, groups=groups)
    for host in hosts:
        for group in created.groups:
            outcome = domain.csm[host].join(group, created.conference_id, USERS[host])
            assert outcome.refused is None, outcome.refused
    domain.network.run_for(1.0)
    return created.groups[0].group_id


def heard(node: MsmNode, group_id: bytes) -> list[bytes]:
    return [received.payload for received in node.received[group_id]]


def test_everybody_who_joined_hears_everybody_else():
    domain = Domain(hosts=("alpha", "beta", "gamma"))
    group_id = gathered(domain, "alpha", "beta", "gamma")
    for name in ("alpha", "beta", "gamma"):
        assert domain.msm[name].send(group_id, name.encode())
    domain.network.run_for(1.0)
    for name, node in domain.msm.items():
        others = {other.encode() for other in domain.msm if other != name}
        assert set(heard(node, group_id)) == others
    epochs = {node.core.memberships[group_id].epoch for node in domain.msm.values()}
    assert epochs == {domain.authorizer.core.groups[group_id].epoch}


def test_each_group_has_an_address_a_key_and_a_sender_id_of_its_own():
    domain = Domain(hosts=("alpha", "beta"))
    gathered(domain, "alpha", "beta", groups=3)
    groups = list(domain.authorizer.core.groups.values())
    assert len({group.description.address for group in groups}) == 3
    assert len({group.key for group in groups}) == 3
    for group in groups:
        assert len(group.roster) == 3  # the Authorizer and two hosts


def test_a_user_not_on_the_list_is_refused_and_the_rule_is_named():
    domain = Domain(hosts=("alpha", "mallory"))
    created = domain.create()
    refused = domain.csm["mallory"].join(created.groups[0], created.conference_id, "mallory").refused
    assert refused is not None
    assert refused.code == "not-allowed"
    assert refused.rule == "closed-group-admits-acceptable-users-only"
    assert "spiffe://example.org/user/mallory" in refused.sentence
    assert not domain.msm["mallory"].core.memberships
    assert not domain.msm["mallory"].paths


def test_an_open_group_admits_any_verified_user():
    domain = Domain(hosts=("alpha", "mallory"))
    created = domain.create(acceptable=(), policy_class=POLICY_CLASS_OPEN)
    assert domain.csm["mallory"].join(created.groups[0], created.conference_id, "mallory").refused is None


def test_a_newcomer_reads_nothing_of_what_was_sent_before():
    domain = Domain(hosts=("alpha", "beta", "gamma"))
    group_id = gathered(domain, "alpha", "beta")
    packets: list[tuple[bytes, str]] = []
    domain.network.join(domain.msm["alpha"].paths[group_id].group.address, "tap", lambda *seen: packets.append(seen))
    domain.msm["alpha"].send(group_id, b"before")
    domain.network.run_for(0.1)
    created = domain.authorizer.core.conferences
    conference_id = next(iter(created))
    group = domain.authorizer.core.groups[group_id].description
    assert domain.csm["gamma"].join(group, conference_id, "carol").refused is None
    domain.network.run_for(3.0)
    for raw, source in packets:
        domain.msm["gamma"].paths[group_id].open(raw, source, domain.network.now)
    assert heard(domain.msm["gamma"], group_id) == []
    assert domain.msm["gamma"].paths[group_id].counters["unknown-epoch"] > 0


def test_an_ejected_host_opens_nothing_more_though_it_keeps_every_key():
    domain = Domain(hosts=("alpha", "beta", "gamma"))
    group_id = gathered(domain, "alpha", "beta", "gamma")
    carol_path = domain.msm["gamma"].paths[group_id]
    kept: list[tuple[bytes, str]] = []
    domain.network.join(carol_path.group.address, "carol-keeps-listening", lambda *seen: kept.append(seen))
    eject(domain, "carol")
    domain.network.run_for(0.02)
    for number in range(20):
        assert domain.msm["alpha"].send(group_id, f"after {number}".encode())
        assert domain.msm["beta"].send(group_id, f"after {number}".encode())
        domain.network.run_for(0.02)
    assert len(kept) > 40
    opened = [item for raw, source in kept for item in carol_path.open(raw, source, domain.network.now)]
    assert [item for item in opened if getattr(item, "payload", b"").startswith(b"after")] == []
    assert len(heard(domain.msm["beta"], group_id)) == 20
    assert domain.msm["gamma"].core.memberships[group_id].state == "ejected"


def eject(domain: Domain, user: str) -> None:
    """The Coordinator's word, taken to the Authorizer by her MSM."""
    from mcsa.v1.authorizer_pb2 import Eviction
    from mcsa.v1.msm_pb2 import EvictMemberRequest

    conference_id = next(iter(domain.authorizer.core.conferences))
    eviction = Eviction(
        conference_id=conference_id,
        subject=str(domain.world.user(user).id),
        reason="a test",
        time_ms=round(domain.network.now * 1000),
    )
    signed = domain.world.user("alice").sign_statement("mcsa eviction v1", eviction.SerializeToString())
    message = EvictMemberRequest(
        conference_id=conference_id, eviction=signed, authorizer=str(domain.world.authorizer.id)
    )
    outcome = domain.csm["alpha"].ask("evict-member", message)
    assert outcome.refused is None, outcome.refused


def test_who_was_ejected_can_not_come_back():
    domain = Domain(hosts=("alpha", "beta", "gamma"))
    group_id = gathered(domain, "alpha", "beta", "gamma")
    eject(domain, "carol")
    conference_id = next(iter(domain.authorizer.core.conferences))
    group = domain.authorizer.core.groups[group_id].description
    refused = domain.csm["gamma"].join(group, conference_id, "carol").refused
    assert refused is not None and refused.rule == "unacceptable-user"


def test_only_the_coordinator_ejects():
    domain = Domain(hosts=("alpha", "beta", "gamma"))
    gathered(domain, "alpha", "beta", "gamma")
    from mcsa.v1.authorizer_pb2 import Eviction
    from mcsa.v1.msm_pb2 import EvictMemberRequest

    conference_id = next(iter(domain.authorizer.core.conferences))
    eviction = Eviction(
        conference_id=conference_id,
        subject=str(domain.world.user("alice").id),
        time_ms=round(domain.network.now * 1000),
    )
    signed = domain.world.user("bob").sign_statement("mcsa eviction v1", eviction.SerializeToString())
    outcome = domain.csm["beta"].ask(
        "evict-member",
        EvictMemberRequest(conference_id=conference_id, eviction=signed, authorizer=str(domain.world.authorizer.id)),
    )
    assert outcome.refused is not None and outcome.refused.rule == "nothing-permits-it"


@pytest.mark.parametrize("seed", range(5))
def test_a_rekey_while_packets_flow_loses_none(seed: int):
    domain = Domain(seed, Weather(jitter=0.03), hosts=("alpha", "beta", "gamma"))
    group_id = gathered(domain, "alpha", "beta", "gamma")
    for number in range(100):
        if number == 40:
            eject(domain, "carol")
        assert domain.msm["alpha"].send(group_id, str(number).encode())
        domain.network.run_for(0.02)
    domain.network.run_for(1.0)
    assert sorted(map(int, heard(domain.msm["beta"], group_id))) == list(range(100))


def test_a_lost_update_is_repaired():
    domain = Domain(hosts=("alpha", "beta", "gamma"))
    group_id = gathered(domain, "alpha", "beta")
    domain.network.run_for(2.0)  # no repair of before is on its way any more
    beta = domain.msm["beta"]
    told, beta.told = beta.told, lambda subject, raw: None  # type: ignore[method-assign]
    domain.network.drops.append(lambda frame, host: host == beta.address)
    domain.age_key(group_id)
    domain.network.run_for(1.0)
    assert beta.core.memberships[group_id].epoch != domain.authorizer.core.groups[group_id].epoch
    domain.network.drops.clear()
    beta.told = told  # type: ignore[method-assign]
    domain.network.run_for(3.0)
    assert beta.core.memberships[group_id].epoch == domain.authorizer.core.groups[group_id].epoch
    assert domain.msm["alpha"].send(group_id, b"again")
    domain.network.run_for(1.0)
    assert heard(beta, group_id) == [b"again"]


def test_who_hears_no_beacon_stops_sending_and_goes_on_when_one_comes():
    domain = Domain(hosts=("alpha", "beta"))
    group_id = gathered(domain, "alpha", "beta")
    alpha = domain.msm["alpha"]
    told, alpha.told = alpha.told, lambda subject, raw: None  # type: ignore[method-assign]
    domain.network.drops.append(lambda frame, host: host == alpha.address)
    domain.network.run_for(DEFAULTS.beacon_silence_ms / 1000 + 1)
    assert alpha.core.memberships[group_id].state == "silenced"
    assert not alpha.send(group_id, b"to whom?")
    assert alpha.paths[group_id].counters["unsent.paused"] == 1
    alpha.told = told  # type: ignore[method-assign]
    domain.network.run_for(2.0)
    assert alpha.core.memberships[group_id].state == "member"
    assert alpha.send(group_id, b"here again")


@pytest.mark.parametrize(("after", "state"), [(0.0, "member"), (5.5, "stale")], ids=["late", "of a lost past"])
def test_a_beacon_that_an_update_overtook_says_nothing_but_one_signed_long_after_says_that_a_past_is_lost(
    after: float, state: str
):
    domain = Domain(hosts=("alpha", "beta"))
    group_id = gathered(domain, "alpha", "beta")
    group, membership = domain.authorizer.core.groups[group_id], domain.msm["alpha"].core.memberships[group_id]
    before = Beacon(group_id=group_id, epoch=group.epoch, update_number=group.number)
    domain.age_key(group_id)
    domain.network.run_for(1.0)
    assert membership.epoch == group.epoch > before.epoch
    before.time_ms = group.epoch + 2 + round(after * 1000)  # signed while the update was being stored, or later
    domain.network.run_for(after)
    signer, now = domain.world.authorizer, domain.network.now
    raw, _ = sign_envelope(signer, before, group_recipient(group_id), bytes(16), now + 60)
    membership._beacon_ms = 0  # as if it came first of those since
    membership.message_arrived(GroupMessage(beacon=raw).SerializeToString(), now)
    assert membership.state == state


def test_without_the_bus_the_group_goes_on_by_multicast_alone():
    domain = Domain(hosts=("alpha", "beta"))
    group_id = gathered(domain, "alpha", "beta")
    domain.network.bus_up = False
    domain.age_key(group_id)
    domain.network.run_for(60.0)
    for name in ("alpha", "beta"):
        membership = domain.msm[name].core.memberships[group_id]
        assert membership.state == "member"
        assert membership.epoch == domain.authorizer.core.groups[group_id].epoch
    assert domain.msm["alpha"].send(group_id, b"still here")
    domain.network.run_for(1.0)
    assert heard(domain.msm["beta"], group_id) == [b"still here"]


def test_members_follow_an_authorizer_that_restarts_under_a_fresh_key_without_registering():
    domain = Domain(hosts=("alpha", "beta"))
    group_id = gathered(domain, "alpha", "beta")
    before = domain.authorizer.core.groups[group_id]
    sender_ids = {name: domain.msm[name].core.memberships[group_id].sender_id for name in ("alpha", "beta")}
    domain.restart_authorizer()
    after = domain.authorizer.core.groups[group_id]
    assert after.key != before.key and after.epoch > before.epoch
    assert after.own_sender_id > before.told.next_sender_id
    domain.network.run_for(5.0)
    told = {changed.change for node in domain.csm.values() for changed in node.core.told}
    assert "silenced" not in told and "statement-needed" not in told
    for name, sender_id in sender_ids.items():
        membership = domain.msm[name].core.memberships[group_id]
        assert (membership.epoch, membership.sender_id) == (after.epoch, sender_id)
    assert domain.msm["alpha"].send(group_id, b"still here")
    domain.network.run_for(0.5)
    assert heard(domain.msm["beta"], group_id) == [b"still here"]


def test_a_host_that_lost_everything_registers_anew_with_a_new_sender_id():
    domain = Domain(hosts=("alpha", "beta"))
    group_id = gathered(domain, "alpha", "beta")
    before = domain.msm["beta"].core.memberships[group_id].sender_id
    domain.restart_msm("beta")
    group = domain.authorizer.core.groups[group_id]
    outcome = domain.csm["beta"].join(group.description, group.conference_id, "bob")
    assert outcome.refused is None
    domain.network.run_for(1.0)
    assert domain.msm["beta"].core.memberships[group_id].sender_id != before
    assert len(group.roster) == 3
    assert domain.msm["beta"].send(group_id, b"back")
    domain.network.run_for(0.5)
    assert heard(domain.msm["alpha"], group_id) == [b"back"]


def test_two_users_on_a_host_and_one_leaves():
    domain = Domain(hosts=("alpha", "beta"))
    group_id = gathered(domain, "alpha", "beta")
    group = domain.authorizer.core.groups[group_id]
    assert domain.csm["beta"].join(group.description, group.conference_id, "carol").refused is None
    domain.network.run_for(0.5)
    carol = str(domain.world.user("carol").id)
    assert carol in domain.msm["alpha"].core.memberships[group_id].roster[3].users
    eject(domain, "carol")
    domain.network.run_for(0.5)
    assert domain.msm["beta"].core.memberships[group_id].state == "member"
    assert carol not in domain.msm["alpha"].core.memberships[group_id].roster[3].users
    assert (
        domain.csm["beta"]
        .ask("leave-group", LeaveGroupRequest(group_id=group_id, user=str(domain.world.user("bob").id)))
        .refused
        is None
    )
    domain.network.run_for(0.5)
    assert len(group.roster) == 2
    assert group_id not in domain.msm["beta"].paths


def test_the_same_seed_gives_the_same_events_sizes_and_times():
    world = World(now=START)

    def story(seed: int) -> list[tuple[float, str, str, int]]:
        domain = Domain(seed, Weather(loss=0.2, duplication=0.1), ("alpha", "beta"), world)
        group_id = gathered(domain, "alpha", "beta")
        for number in range(20):
            domain.msm["alpha"].send(group_id, bytes(number))
            domain.network.run_for(0.05)
        return [(frame.at, frame.way, frame.destination, len(frame.raw)) for frame in domain.network.frames]

    assert story(5) == story(5)
    assert story(5) != story(6)


def test_an_authorizer_that_the_host_does_not_accept_is_refused():
    """RFC 5374's GPAD: which Authorizer may key which addresses is the host's own list, not an announcement's word."""
    domain = Domain(hosts=("alpha", "beta"))
    created = domain.create()
    beta = domain.csm["beta"]
    group = created.groups[0]
    elsewhere = GroupDescription()
    elsewhere.CopyFrom(group)
    elsewhere.address = "239.1.1.1"  # outside the network for which the Authorizer is accepted
    refused = beta.join(elsewhere, created.conference_id, "bob").refused
    assert refused is not None and (refused.code, refused.rule) == ("authorizer", "gpad")
    other = AcceptsNobody(beta)
    refused = other.join(group, created.conference_id)
    assert refused is not None and (refused.code, refused.rule) == ("authorizer", "gpad")
    assert domain.msm["beta"].core.memberships == {}


class AcceptsNobody:
    """Asks for a registration with an Authorizer of another domain."""

    def __init__(self, node: AskingNode) -> None:
        self._node = node

    def join(self, group: GroupDescription, conference_id: bytes):
        authorizer = "spiffe://example.net/authorizer/main"
        prepared = self._node.ask("prepare-join", PrepareJoinRequest(group_id=group.group_id, authorizer=authorizer))
        signed = sign_user_statement(self._node.world.user("bob"), prepared.message.statement)
        request = JoinGroupRequest(
            group=group,
            authorizer=authorizer,
            conference_id=conference_id,
            user_statement=signed,
            user=str(self._node.world.user("bob").id),
        )
        return self._node.ask("join-group", request).refused


def test_an_announcement_that_would_be_too_long_is_refused():
    domain = Domain(hosts=("alpha",))
    signed = domain.describe(groups=14)
    outcome = domain.csm["alpha"].ask("create-session", CreateSessionRequest(description=signed))
    assert outcome.refused is not None
    assert (outcome.refused.code, outcome.refused.rule) == ("announcement", "size")
