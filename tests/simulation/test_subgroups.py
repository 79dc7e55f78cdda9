"""A group of many subgroups (Iolus) in a simulated domain: the real cores, agents that carry packets between them."""

from __future__ import annotations

from mcsa.statements import EVICTION_LABEL
from mcsa.v1.authorizer_pb2 import Eviction
from mcsa.v1.msm_pb2 import CreateSessionResponse, EvictMemberRequest, LeaveGroupRequest
from mcsa.v1.types_pb2 import GroupPolicy
from services.authorizer.group import Group
from tests.simulation.domain import Domain
from tests.simulation.network import Weather

HOSTS = ("alpha", "beta", "gamma", "delta", "epsilon")
USERS = {host: f"user-{host}" for host in HOSTS}


class Story:
    """Five hosts in subgroups of two: alpha and beta in the backbone, gamma and delta in one leaf, epsilon in another.

    gamma and epsilon came first in theirs: they are the relaying agents.
    """

    def __init__(self, seed: int = 1, weather: Weather | None = None, hosts: tuple[str, ...] = HOSTS) -> None:
        self.domain = Domain(seed, weather, hosts)
        policy = GroupPolicy(gkm="iolus", subgroup_size=2)
        self.created: CreateSessionResponse = self.domain.create(acceptable=tuple(USERS.values()), policy=policy)
        self.group_id = self.created.groups[0].group_id
        for host in hosts:
            self.join(host)
        self.domain.network.run_for(3.0)

    def join(self, host: str) -> None:
        outcome = self.domain.csm[host].join(self.created.groups[0], self.created.conference_id, USERS[host])
        assert outcome.refused is None, outcome.refused

    @property
    def subgroups(self) -> list[Group]:
        star = self.domain.authorizer.core._kept.star(self.group_id)
        assert star is not None
        return list(star)

    def names(self, subgroup: int) -> list[str]:
        return sorted(member.host.rpartition("/")[2] for member in self.subgroups[subgroup].members)

    def say(self, host: str, payload: bytes) -> None:
        assert self.domain.msm[host].send(self.group_id, payload)
        self.domain.network.run_for(1.0)

    def heard(self, host: str) -> list[bytes]:
        return [item.payload for item in self.domain.msm[host].received[self.group_id]]


def test_hosts_are_placed_in_subgroups_and_the_first_of_each_joins_it_to_the_backbone():
    story = Story()
    assert [story.names(number) for number in range(3)] == [
        ["alpha", "beta", "epsilon#relay", "gamma#relay"],
        ["delta", "gamma"],
        ["epsilon"],
    ]
    addresses = {group.description.address for group in story.subgroups}
    keys = {group.key.reveal() for group in story.subgroups}
    assert len(addresses) == len(keys) == 3
    for group in story.subgroups:
        for host in story.domain.msm.values():
            for membership in host.core._all_memberships():
                if membership.group.group_id == group.id:
                    assert membership.epoch == group.epoch


def test_what_one_says_all_others_hear_once_and_from_whom_it_was_said():
    story = Story()
    for host in HOSTS:
        story.say(host, b"from " + host.encode())
    for host in HOSTS:
        assert sorted(story.heard(host)) == sorted(b"from " + other.encode() for other in HOSTS if other != host), host
    gamma = story.domain.msm["gamma"].core.memberships[story.group_id]
    for host in ("alpha", "delta", "epsilon"):
        received = story.domain.msm[host].received[story.group_id]
        assert {item.sender_id for item in received if item.payload == b"from gamma"} == {gamma.sender_id}


def test_everybody_knows_who_is_in_the_other_subgroups():
    story = Story()
    users = {str(story.domain.world.user(user).id) for user in USERS.values()}
    for host in HOSTS:
        roster = story.domain.msm[host].core.memberships[story.group_id].roster.values()
        assert {user for entry in roster for user in entry.users} == users, host


def test_a_join_and_a_leave_change_one_subgroups_key_only():
    story = Story(hosts=HOSTS[:4])
    before = [group.key for group in story.subgroups]
    story.domain.add_host("epsilon")
    story.join("epsilon")
    story.domain.network.run_for(3.0)
    changed = [group.key != key for group, key in zip(story.subgroups, before)]
    assert changed == [True, False]  # the new subgroup's agent has come into the backbone
    before = [group.key for group in story.subgroups]
    delta = str(story.domain.world.user(USERS["delta"]).id)
    left = story.domain.csm["delta"].ask("leave-group", LeaveGroupRequest(group_id=story.group_id, user=delta))
    assert left.refused is None
    story.domain.network.run_for(3.0)
    assert [group.key != key for group, key in zip(story.subgroups, before)] == [False, True, False]
    assert story.names(1) == ["gamma"]
    roster = story.domain.msm["alpha"].core.memberships[story.group_id].roster.values()
    assert delta not in {user for entry in roster for user in entry.users}


def eject(story: Story, host: str) -> None:
    world = story.domain.world
    eviction = Eviction(
        conference_id=story.created.conference_id,
        subject=str(world.user(USERS[host]).id),
        time_ms=round(story.domain.network.now * 1000),
    )
    signed = world.user("alice").sign_statement(EVICTION_LABEL, eviction.SerializeToString())
    request = EvictMemberRequest(authorizer=str(world.authorizer.id), eviction=signed)
    outcome = story.domain.csm["alpha"].ask("evict-member", request)
    assert outcome.refused is None, outcome.refused
    story.domain.network.run_for(3.0)


def test_an_agent_that_is_thrown_out_is_out_of_both_and_another_takes_its_place():
    story = Story()
    gamma = story.domain.msm["gamma"]
    eject(story, "gamma")
    assert story.names(0) == ["alpha", "beta", "delta#relay", "epsilon#relay"]
    assert story.names(1) == ["delta"]
    story.say("alpha", b"without gamma")
    for host in ("beta", "delta", "epsilon"):
        assert b"without gamma" in story.heard(host)
    assert b"without gamma" not in story.heard("gamma")
    story.say("delta", b"by another agent")
    assert b"by another agent" in story.heard("epsilon")
    assert not gamma.agents and not gamma.core._agencies


def test_an_agent_that_is_thrown_out_is_taken_off_the_backbone_whether_it_leaves_or_not():
    story = Story()
    backbone = story.subgroups[0]
    before = backbone.key
    story.domain.msm["gamma"].kill()  # it obeys nothing any more
    eject(story, "gamma")
    assert "gamma#relay" not in story.names(0) and backbone.key != before


def test_an_agent_that_dies_is_replaced_when_its_lease_ends():
    story = Story()
    story.domain.msm["gamma"].kill()
    story.domain.network.run_for(90.0)
    assert story.names(1) == ["delta"] and "delta#relay" in story.names(0)
    story.say("alpha", b"still here")
    assert b"still here" in story.heard("delta")


def test_an_agent_whose_msm_restarted_is_appointed_anew_under_other_sender_ids():
    story = Story()
    before = story.domain.msm["gamma"].core.memberships[story.group_id].own_relay
    story.domain.restart_msm("gamma")
    story.join("gamma")
    story.domain.network.run_for(4.0)
    after = story.domain.msm["gamma"].core.memberships[story.group_id].own_relay
    delta = story.domain.msm["delta"].core.memberships[story.group_id].own_relay
    assert (after is None) != (delta is None)
    assert before not in (after, delta)
    story.say("alpha", b"again")
    assert b"again" in story.heard("gamma") and b"again" in story.heard("delta")


def test_subgroups_survive_a_restart_of_the_authorizer():
    story = Story()
    story.domain.restart_authorizer()
    story.domain.network.run_for(5.0)
    assert not story.domain.authorizer.alarms
    assert [story.names(number) for number in range(3)] == [
        ["alpha", "beta", "epsilon#relay", "gamma#relay"],
        ["delta", "gamma"],
        ["epsilon"],
    ]
    told = {changed.change for node in story.domain.csm.values() for changed in node.core.told}
    assert "statement-needed" not in told
    story.say("delta", b"as before")
    for host in ("alpha", "beta", "gamma", "epsilon"):
        assert b"as before" in story.heard(host)
    users = {str(story.domain.world.user(user).id) for user in USERS.values()}
    roster = story.domain.msm["delta"].core.memberships[story.group_id].roster.values()
    assert {user for entry in roster for user in entry.users} == users


def test_a_host_that_was_not_appointed_is_no_agent():
    from services.msm.agency import Agency

    story = Story()
    node = story.domain.msm["delta"]
    leaf = node.core.memberships[story.group_id]
    agency = node.core._agencies[story.group_id] = Agency(leaf, lambda _: node.address)
    effects = agency.begin()
    node.perform(node.endpoint.carry_out(effects, story.domain.network.now))
    story.domain.network.run_for(0.5)
    assert story.domain.authorizer.endpoint.counters["refused.not-allowed"] >= 1
    assert "delta#relay" not in story.names(0)


def test_with_loss_and_disorder_nothing_arrives_twice():
    story = Story(3, Weather(loss=0.1, duplication=0.3, jitter=0.05))
    for number in range(40):
        story.domain.msm["alpha"].send(story.group_id, b"%d" % number)
        story.domain.network.run_for(0.02)
    story.domain.network.run_for(2.0)
    for host in ("delta", "epsilon"):
        heard = story.heard(host)
        assert len(heard) == len(set(heard)) > 15
