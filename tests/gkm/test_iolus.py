"""What Iolus promises beyond what every plug-in does: a change is one subgroup's."""

from __future__ import annotations

import pytest

from mcsa.errors import Rejected
from mcsa.esp.inner import MAX_PAYLOAD
from mcsa.gkm import Excluded, scheme_named
from mcsa.gkm.iolus import SUBGROUP_SIZE
from mcsa.updates import seal_update, update_key
from mcsa.v1.authorizer_pb2 import GroupUpdate
from tests.gkm.test_conformance import Crowd
from tests.world import NOW, World

SCHEME = scheme_named("iolus")


def star(subgroups: int = 3, members: int = 4) -> list[Crowd]:
    """Subgroups, the backbone first, each other one joined to it by an agent."""
    crowds = [Crowd(SCHEME, seed) for seed in range(subgroups)]
    for number, crowd in enumerate(crowds):
        crowd.change([f"m{number}.{member}" for member in range(members)])
    for number, crowd in enumerate(crowds[1:], 1):
        for joined in (crowds[0], crowd):
            joined.change([f"agent{number}"])
    return crowds


def test_it_says_that_it_has_subgroups_and_how_large() -> None:
    assert SCHEME.subgroups
    assert SCHEME.promises.subgroup_size == SUBGROUP_SIZE == 256


@pytest.mark.parametrize("joins, leaves", [(["new"], []), ([], ["m1.2"]), ([], [])])
def test_a_change_touches_one_subgroup_only(joins: list[str], leaves: list[str]) -> None:
    crowds = star()
    before = [(crowd.authority.key, crowd.authority.snapshot()) for crowd in crowds]
    crowds[1].change(joins, leaves)
    for crowd, (key, snapshot) in list(zip(crowds, before))[::2]:
        assert (crowd.authority.key, crowd.authority.snapshot()) == (key, snapshot)
        assert {member.key for member in crowd.present.values()} == {key}
    assert crowds[1].authority.key != before[1][0]


def test_an_agents_leave_touches_both_of_its_subgroups_and_it_follows_neither() -> None:
    backbone, leaf, other = star()
    key = other.authority.key
    for crowd in (backbone, leaf):
        agent = crowd.present["agent1"]
        with pytest.raises((Excluded, Rejected)):
            agent.process(crowd.change([], ["agent1"]))
        assert agent.key != crowd.authority.key
    assert other.authority.key == key


def test_one_subgroups_rekey_is_nothing_in_another() -> None:
    backbone, leaf, other = star()
    for rekey in (leaf.change(), leaf.change([], ["m1.0"])):
        for member in [*backbone.present.values(), *other.present.values()]:
            with pytest.raises((Excluded, Rejected)):
                member.process(rekey)


@pytest.mark.parametrize("size", [2, 10, 100])
def test_a_leave_costs_a_wrap_for_each_that_stays_and_a_join_two(size: int) -> None:
    authority, random = SCHEME.create(bytes), Crowd(SCHEME).random
    contributions = {f"m{number}": SCHEME.begin(random).contribution for number in range(size)}
    authority._random = random  # type: ignore[attr-defined]
    authority.change(contributions, [], replace_key=True)
    assert authority.change({}, ["m1"], replace_key=True).wraps == size - 1
    assert authority.change({"new": SCHEME.begin(random).contribution}, [], replace_key=True).wraps == 2


def test_a_full_subgroups_leave_fits_one_datagram() -> None:
    authority = SCHEME.create(bytes)
    contribution = SCHEME.begin(Crowd(SCHEME).random).contribution
    authority.change({f"m{number}": contribution for number in range(SUBGROUP_SIZE)}, [], replace_key=True)
    key = update_key(authority.key, bytes(16), 1)
    rekey = authority.change({}, ["m7"], replace_key=True).rekey
    update = GroupUpdate(group_id=bytes(16), number=2, epoch=2, gkm_rekey=rekey, removed=[7], ejection=True)
    assert 20_000 < len(seal_update(update, 1, key, World().authorizer, bytes, NOW)) < MAX_PAYLOAD // 2
