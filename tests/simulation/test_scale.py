"""Many members, from a seed: loss, churn, restarts; at the end all that are there hold the key, nobody else does."""

from __future__ import annotations

import os
from typing import Any

import pytest

from mcsa.keys import GroupKey
from tests.simulation.large import LargeDomain
from tests.simulation.large_host import LargeHost
from tests.simulation.tree import Tree

LARGE_TREE = 1_000_000
MEMBERS = int(os.environ.get("MCSA_SIMULATED_MEMBERS", "2000"))  # see CONTRIBUTING.md


def lived_through(tree: Tree) -> Tree:
    """Churn with two restarts: one from a snapshot alone, one from a snapshot and the records since."""
    tree.churn(15)
    tree.snapshot()
    tree.restart()
    tree.churn(15)
    tree.restart()
    tree.churn(15)
    tree.settle()
    return tree


def test_a_million_members_tree_of_which_two_hundred_are_looked_at_closely():
    tree = lived_through(Tree(seed=7, members=LARGE_TREE, followers=200))
    assert len(tree.present) == 200
    assert {follower.member.key for follower in tree.present.values()} == {tree.authority.key}
    assert len(tree.gone) > 100 and tree.learned_by_the_departed() == 0
    assert {"lost", "repaired", "repair lost", "asleep", "missed too much"} <= tree.counters.keys()


def test_the_same_seed_gives_the_same_tree_and_the_same_rekeys():
    one, again, other = (lived_through(Tree(seed, members=20_000, followers=40)) for seed in (1, 1, 2))
    assert one.story == again.story and one.counters == again.counters
    assert one.story != other.story


class Life:
    """What a large group lives through; `evicted` are among its domain's hosts, and refused."""

    def __init__(self, seed: int, members: int) -> None:
        self.domain = LargeDomain(seed)
        self.members = members
        self.evicted: list[LargeHost] = []
        self.story: list[tuple[Any, ...]] = []

    def begin(self) -> None:
        self.domain.arrive(self.members, within=2.0)
        self.go_on(5.0)

    def churn(self, *, crashes: bool = False, sleepers: bool = False) -> None:
        """One in a hundred comes, goes, hears nothing for a while; somebody is thrown out."""
        domain, few = self.domain, self.members // 100
        domain.arrive(few, within=0.3)
        for host in domain.pick(few):
            host.leave()
            domain.depart(host)
        for host in domain.pick(few if crashes else 0):
            host.running = False
            domain.depart(host)
        for host in domain.pick(few):
            host.deaf_until = domain.network.now + 5.0
        for host in domain.pick(few if sleepers else 0):
            host.deaf_until = domain.network.now + 75.0  # its lease ends meanwhile
        self.evicted += domain.pick(1)
        domain.evict(self.evicted[-1])
        self.go_on(6.0)

    def go_on(self, seconds: float) -> None:
        domain = self.domain
        domain.network.run_for(seconds)
        group = domain.group
        self.story.append((domain.network.now, len(group.members), group.number, sorted(domain.told.items())))

    def present(self) -> list[LargeHost]:
        return [host for host in self.domain.hosts.values() if host not in self.evicted]

    def settled(self) -> bool:
        """Everybody is a member, in the Authorizer's epoch."""
        group = self.domain.group
        at = "member", group.epoch, group.number
        found = (host.membership for host in self.present())
        return all((each.state, each.epoch, each.number) == at for each in found)


def lived(seed: int, members: int) -> Life:
    life = Life(seed, members)
    life.begin()
    life.churn(crashes=True)
    life.churn(sleepers=True)
    life.domain.restart_authorizer(down=3.0)
    life.go_on(12.0)
    life.churn()
    life.go_on(75.0)
    for _ in range(30):
        if life.settled():
            break
        life.domain.network.run_for(1.0)
    return life


@pytest.mark.timeout(1_800)
def test_a_large_group_in_full_through_loss_churn_and_a_restart():
    life = lived(5, MEMBERS)
    domain, group, present = life.domain, life.domain.group, life.present()
    assert life.settled() and len(present) > 0.97 * MEMBERS
    assert {host.membership._key for host in present} == {group.key}
    assert {host.name for host in present} == {member.host for member in group.members}
    assert {len(host.membership.roster) for host in present} == {len(group.roster)}
    assert {host.refused.rule for host in life.evicted if host.refused} == {"unacceptable-host"}
    assert domain.told["updates repaired"] and domain.told["stale: missed too much"]
    assert domain.told["leases.ended"] >= 2 * (MEMBERS // 100)
    assert domain.authorizer.alarms == []


def test_who_is_gone_from_a_large_group_comes_to_no_later_key_with_all_that_it_ever_had():
    life = lived(6, 300)
    assert life.settled()
    domain, rekeys = life.domain, life.domain.rekeys()
    payloads = list(domain.updates.values())
    assert len(domain.departed) >= 9
    for host in [*domain.departed, *life.evicted]:
        keys: set[GroupKey] = host.attack(payloads, rekeys, domain.trust, domain.network.now)
        assert host.keys and domain.group.key not in keys
    someone = life.present()[0]
    assert domain.group.key in someone.attack(payloads, rekeys, domain.trust, domain.network.now)


def test_the_same_seed_gives_the_same_large_group_the_same_life():
    assert lived(1, 200).story == (again := lived(1, 200)).story
    assert again.story != lived(2, 200).story
