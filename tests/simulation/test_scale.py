"""Many members, from a seed: loss, churn, restarts; at the end all that are there hold the key, nobody else does."""

from __future__ import annotations

from tests.simulation.tree import Tree

LARGE_TREE = 1_000_000


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
