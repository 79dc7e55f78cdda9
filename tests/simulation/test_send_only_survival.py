"""Hosts that send and are no members, under an Authorizer that is killed at any moment, or whose store forgets: they
are still let send or told that they are not, and no sender ID comes twice."""

from __future__ import annotations

import random

import pytest

from mcsa.v1.msm_pb2 import EndSendingRequest
from mcsa.v1.types_pb2 import GroupPolicy
from services.authorizer.group import Group
from tests.simulation.history import Broken
from tests.simulation.network import START
from tests.simulation.survival import HOSTS, RESTARTED_AFTER, SurvivalDomain, WalkedNode
from tests.world import World

WORLD = World(now=START)
LEASE = 20  # seconds
SENDERS = {"echo": "eve", "foxtrot": "frank", "golf": "grace"}


def new_domain(seed: int = 1) -> SurvivalDomain:
    return SurvivalDomain(seed, hosts=(*HOSTS, *SENDERS), world=WORLD)


def tell_the_story(domain: SurvivalDomain) -> None:
    """Everything that is asked is answered, whatever happens meanwhile; and what was answered is true at the end."""
    with domain.history.reading():
        policy = GroupPolicy(lease_s=LEASE)
        created = domain.create(acceptable=("alice", "bob", "dave"), senders=tuple(SENDERS.values()), policy=policy)
        domain.group, domain.conference_id = created.groups[0], created.conference_id
        domain.join("alpha", "alice")
        send_only(domain, "echo")
        domain.join("beta", "bob")
        send_only(domain, "foxtrot")
        send_only(domain, "golf")
        domain.evict("frank")
        ended = EndSendingRequest(group_id=domain.group.group_id)
        assert domain.csm["golf"].ask("end-sending", ended).refused is None
        if domain.authorizer.alive:
            domain.age_key(domain.group.group_id)
        domain.network.run_for(1.0)
        domain.step = lambda node, name: None  # nobody is killed any more
        domain.network.run_for(3.0)
        check_the_end(domain)


def send_only(domain: SurvivalDomain, host: str) -> None:
    outcome = domain.csm[host].send_only(domain.group, domain.conference_id, SENDERS[host])
    assert outcome.refused is None, outcome.refused


def say(domain: SurvivalDomain, host: str) -> int:
    """By how many of the two members it is heard."""
    words = f"{host} at {domain.network.now}".encode()
    domain.msm[host].send(domain.group.group_id, words)
    domain.network.run_for(0.1)
    received = (domain.msm[member].received[domain.group.group_id] for member in ("alpha", "beta"))
    return sum(words in [packet.payload for packet in packets] for packets in received)


def check_the_end(domain: SurvivalDomain) -> None:
    group = domain.authorizer.core.groups[domain.group.group_id]
    domain.talk("alpha", "beta")
    assert "statement-needed" not in {changed.change for changed in domain.csm["echo"].core.told}
    sending = domain.msm["echo"].core.sending_only.groups[domain.group.group_id]
    assert (sending.state, sending.epoch) == ("sending-only", group.epoch)
    assert say(domain, "echo") == 2
    assert say(domain, "foxtrot") == 0
    assert str(domain.world.host("foxtrot").id) not in group.send_only
    assert domain.authorizer.alarms == []
    refused = domain.csm["foxtrot"].send_only(domain.group, domain.conference_id, "frank").refused
    assert refused is not None and refused.rule in ("unacceptable-user", "one-user-a-host")
    domain.network.run_for(1.5 * LEASE)  # whose word that it ends was lost is missed by then
    assert [each.host for each in group.send_only] == [str(domain.world.host("echo").id)]


def test_the_story_is_true_where_nothing_happens():
    domain = new_domain()
    tell_the_story(domain)
    assert domain.steps > 60


@pytest.mark.parametrize("third", range(1, 4))
def test_killed_at_any_step_and_started_again_what_was_answered_is_true(third: int):
    step, domain = third, None
    while domain is None or domain.steps >= step - 3:  # else it wasn't killed any more: the story was over
        domain = new_domain()
        domain.kill_at(step)
        try:
            tell_the_story(domain)
        except AssertionError as broken:
            raise type(broken)(f"killed at step {step}: {broken}") from broken
        step += 3
    assert step > 60


@pytest.mark.parametrize("seed", range(10))
def test_killed_again_and_again(seed: int):
    domain = new_domain(seed)
    draw = random.Random(seed).random

    def step(node: WalkedNode, name: str) -> None:
        if draw() < 0.04:
            node.kill()
            domain.network.at(domain.network.now + RESTARTED_AFTER, lambda: domain.start_authorizer(domain.state))

    domain.step = step
    tell_the_story(domain)


@pytest.mark.parametrize("state", ["the same", "as it was at the start"])
@pytest.mark.parametrize("member_hears", [False, True])
def test_where_the_store_forgot_it_a_sender_registers_again_under_another_id(state: str, member_hears: bool):
    """It shows the last beacon that it heard, like a member: here it may be the only one that can."""
    domain = new_domain()
    with domain.history.reading():
        created = domain.create(acceptable=("alice", "bob"), senders=tuple(SENDERS.values()))
        domain.group, domain.conference_id = created.groups[0], created.conference_id
        domain.join("alpha", "alice")
        copy = domain.stream.copy()
        send_only(domain, "echo")
        domain.age_key(domain.group.group_id)
        domain.network.run_for(2.0)
        sending = domain.msm["echo"].core.sending_only.groups[domain.group.group_id]
        first, epoch = sending.sender_id, sending.epoch
        if not member_hears:
            domain.msm["alpha"].kill()
        domain.authorizer.kill()
        domain.stream.restore(copy)
        domain.start_authorizer(domain.state if state == "the same" else domain.first_state)
        domain.network.run_for(3.0)
        assert sending.state == "stale" and domain.csm["echo"].core.told[-1].change == "statement-needed"
        send_only(domain, "echo")
        domain.network.run_for(1.0)
        group = domain.authorizer.core.groups[domain.group.group_id]
        assert sending.state == "sending-only" and sending.sender_id != first
        assert sending.epoch == group.epoch > epoch
        assert domain.alarms & {"group-log", "rolled-back"}


def test_the_history_notices_a_sender_id_that_is_given_twice(monkeypatch: pytest.MonkeyPatch):
    let_send = Group._let_send
    monkeypatch.setattr(Group, "_let_send", lambda self, joiner, _given, now: let_send(self, joiner, 3, now))
    with pytest.raises((Broken, AssertionError)):
        tell_the_story(new_domain())
