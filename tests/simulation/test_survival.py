"""An Authorizer that is killed at any moment: nothing that was answered is lost, no sender ID and no epoch comes
twice. What becomes of a store that forgets is in `test_forgetful_store.py`."""

from __future__ import annotations

import random
from typing import Any

import pytest
from google.protobuf.message import Message

from services.authorizer.group import Group
from services.authorizer.journal import Journal, Then
from tests.simulation.history import Broken
from tests.simulation.network import START
from tests.simulation.survival import HOSTS, RESTARTED_AFTER, SurvivalDomain, WalkedNode, Wiretap
from tests.world import World

WORLD = World(now=START)
HEAD = bytes(range(32))


def tell_the_story(domain: SurvivalDomain, *, snapshots: bool = False) -> None:
    """Everything that is asked is answered, whatever happens meanwhile; and what was answered is true at the end.

    Snapshots have no countersignatures.
    """
    with domain.history.reading():
        domain.begin_conference()
        for host, user in (
            ("alpha", "alice"),
            ("beta", "bob"),
            ("beta", "carol"),
            ("gamma", "dave"),
            ("delta", "erin"),
        ):
            domain.join(host, user)
        tap = Wiretap(domain, "gamma")
        domain.evict("dave")
        domain.network.run_for(0.6)  # the ejected's key is good for half a second more
        already = len(tap.opened())
        domain.leave("delta", "erin")
        countersigned = domain.countersign(HEAD)
        let_the_key_grow_old(domain)
        domain.step = lambda node, name: None  # nobody is killed any more
        domain.network.run_for(3.0)
        check_the_end(domain)
        assert snapshots or countersigned in domain.countersigned()
        assert len(tap.opened()) == already


def let_the_key_grow_old(domain: SurvivalDomain) -> None:
    if domain.authorizer.alive:  # else one is about to begin, and its key is fresh
        domain.age_key(domain.group.group_id)
    domain.network.run_for(1.0)


def check_the_end(domain: SurvivalDomain) -> None:
    told = {changed.change for host in ("alpha", "beta") for changed in domain.csm[host].core.told}
    assert "statement-needed" not in told  # members followed, nobody had to register again
    domain.talk("alpha", "beta")
    group = domain.authorizer.core.groups[domain.group.group_id]
    members = {
        member.host.rpartition("/")[2]: {user.rpartition("/")[2] for user in member.users} for member in group.members
    }
    assert members == {"alpha": {"alice"}, "beta": {"bob", "carol"}}
    assert domain.authorizer.alarms == []
    refused = domain.csm["gamma"].join(domain.group, domain.conference_id, "dave").refused
    assert refused is not None and refused.rule == "unacceptable-user"


def test_the_story_is_true_where_nothing_happens():
    domain = SurvivalDomain(hosts=HOSTS, world=WORLD)
    tell_the_story(domain)
    assert domain.steps > 80


STATES = {"the same": False, "another one, with the first storage key": True}


def walk(*, other: bool = False, first: int = 1, each: int = 1, snapshots: bool = False) -> None:
    """The story, again and again, with the Authorizer killed before its first step, its second, and so on."""
    step, domain = first, None
    while domain is None or domain.steps >= step - each:  # else it wasn't killed any more: the story was over
        domain = SurvivalDomain(hosts=HOSTS, world=WORLD)
        domain.kill_at(step, domain.first_state if other else None)
        try:
            tell_the_story(domain, snapshots=snapshots)
        except AssertionError as broken:
            raise type(broken)(f"killed at step {step}: {broken}") from broken
        step += each
    assert step > 80


@pytest.mark.parametrize("quarter", range(1, 5))
@pytest.mark.parametrize("state", STATES)
def test_killed_at_any_step_and_started_again_what_was_answered_is_true(state: str, quarter: int):
    walk(other=STATES[state], first=quarter, each=4)


@pytest.mark.parametrize("seed", range(20))
def test_killed_again_and_again(seed: int):
    domain = SurvivalDomain(seed, hosts=HOSTS, world=WORLD)
    draw = random.Random(seed).random

    def step(node: WalkedNode, name: str) -> None:
        if draw() < 0.04:
            node.kill()
            domain.network.at(domain.network.now + RESTARTED_AFTER, lambda: domain.start_authorizer(domain.state))

    domain.step = step
    tell_the_story(domain)


@pytest.mark.parametrize("failure", ["request", "answer"])
def test_whichever_append_is_lost_or_not_answered_everything_goes_on(failure: str):
    appends = 0
    for lost in range(1, 100):
        domain, appends = SurvivalDomain(hosts=HOSTS, world=WORLD), 0

        def step(node: WalkedNode, name: str, lost: int = lost, domain: SurvivalDomain = domain) -> None:
            nonlocal appends
            if name == "the store is asked":
                appends += 1
                domain.stream.fail_next = failure if appends == lost else None

        domain.step = step
        tell_the_story(domain)
        if lost > appends:
            break
    assert 10 < appends < lost


# ---- the alarms ring


def test_the_walk_notices_answers_that_leave_before_the_record_is_stored(monkeypatch: pytest.MonkeyPatch):
    commit = Journal.commit

    def hasty(self: Journal, log: str, record: Message, then: Then, **options: bool) -> list[Any]:
        return [*then(WORLD.now), *commit(self, log, record, lambda _: [], **options)]

    monkeypatch.setattr(Journal, "commit", hasty)
    with pytest.raises(AssertionError, match="killed at step"):
        walk()


def test_the_history_notices_a_process_that_goes_on_as_the_sender_of_the_one_before(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Group, "_replace_own_sender_id", lambda self, removed: [])
    with pytest.raises(Broken, match="sender ID 1 was given to process 1 of the Authorizer, and to process 2"):
        walk()
