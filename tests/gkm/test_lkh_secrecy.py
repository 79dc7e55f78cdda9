"""Who can follow which change of `lkh`, alone and together."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsa.gkm import Excluded, key_derivation, key_tree, lkh
from mcsa.gkm.key_derivation import AGED, GROUP, PARENT, WRAP, chain, confirm, grown, halves, spend
from mcsa.gkm.key_tree import NO_KEY
from mcsa.gkm.lkh import Lkh
from mcsa.keys import KEY_SIZE
from tests.gkm.test_conformance import Crowd
from tests.gkm.trees import all_agree, crowd_of, member_of, path_in_tree, server_of, server_with, tree_change
from tests.world import seeded


class Watched(Crowd):
    """Knows every key there ever was, those that lived for a moment too; what each member ever kept; and which nonces
    were used, those of changes without a rekey too."""

    def __init__(self, degree: int, seed: int) -> None:
        super().__init__(Lkh(degree), seed)
        self.had: dict[str, set[bytes]] = {}
        self.real: set[bytes] = set()
        self.nonces: list[bytes] = []
        self.holders: dict[bytes, set[str]] = {}  # of each group key: who was a member while it was

    def step(self, joins: list[str], leaves: list[str], *, replace: bool = True) -> bytes:
        with self._watching():
            rekey = self.change(joins, leaves, replace_key=replace)
        for name in self.present:
            self.had.setdefault(name, set()).update(self.keys_of(name))
        self.real |= self.live()
        self.holders.setdefault(self.authority.key.reveal(), set()).update(self.present)
        return rekey

    def keys_of(self, name: str) -> set[bytes]:
        return {*member_of(self, name)._path, *path_in_tree(self, name), member_of(self, name).key.reveal()}

    def live(self) -> set[bytes]:
        levels = server_of(self).tree.heights
        keys = {bytes(level[at : at + KEY_SIZE]) for level in levels for at in range(0, len(level), KEY_SIZE)}
        return keys - {NO_KEY}

    def learned_by(self, names: Iterable[str]) -> set[bytes]:
        """Which of the keys that there ever were these have together, by all that can be done with what they kept and
        all rekeys that were ever sent."""
        wraps = [part for raw in self.rekeys if raw for part in cut(tree_change(raw).wrapped_keys)]
        found = set().union(*(self.had.get(name, set()) for name in names))
        fresh = set(found)
        while fresh:
            had: set[bytes] = set()
            for key in fresh:
                had.add(grown(key))
                for nonce in self.nonces:
                    for purpose in (PARENT, WRAP, AGED, GROUP):
                        had.update(spend(key, nonce, purpose))
                    pad = spend(key, nonce, WRAP)[0]
                    had |= {bytes(a ^ b for a, b in zip(part, pad)) for part in wraps}
            fresh = had & self.real - found
            found |= fresh
        return found

    @contextmanager
    def _watching(self) -> Iterator[None]:
        def watched_halves(digest: bytes) -> tuple[bytes, bytes]:
            parts = halves(digest)
            self.real.update(parts)
            return parts

        def watched_chain(root: bytes, history: bytes, raw: bytes) -> tuple[bytes, bytes]:
            confirmation, nonce = chain(root, history, raw)
            if nonce not in self.nonces:
                self.nonces.append(nonce)
            return confirmation, nonce

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(key_derivation, "halves", watched_halves)
            patch.setattr(key_tree, "halves", watched_halves)
            patch.setattr(lkh, "chain", watched_chain)
            yield


def cut(raw: bytes) -> list[bytes]:
    return [raw[at : at + KEY_SIZE] for at in range(0, len(raw), KEY_SIZE)]


def check_what_they_learned(crowd: Watched, coalition: set[str]) -> None:
    """RFC 2627, section 5.4.1: no set of users together can read what none of them could have read alone."""
    learned = crowd.learned_by(coalition)
    theirs = {key for key, holders in crowd.holders.items() if holders & coalition}
    assert learned & set(crowd.holders) <= theirs
    kept = set[bytes]().union(*(crowd.keys_of(name) for name in coalition & set(crowd.present)))
    assert learned & crowd.live() <= kept


@settings(max_examples=25, deadline=None)
@given(
    degree=st.sampled_from([2, 3, 4]),
    seed=st.integers(0, 2**32),
    steps=st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from([0, 0, 0.1, 0.4, 0.8]), st.booleans()), min_size=2, max_size=7
    ),
)
def test_no_coalition_learns_what_none_of_it_may_know(degree: int, seed: int, steps: list[tuple[int, float, bool]]):
    """All that left; one of them and those that came last; any others: with all they kept and every rekey."""
    crowd, chance, count = Watched(degree, seed), random.Random(seed), 0
    crowd.step(["a", "b", "c"], [])
    for joining, leaving, replace in steps:
        leaves = sorted(name for name in crowd.present if chance.random() < leaving)
        joins = [f"m{count + number}" for number in range(joining)]
        count += joining
        crowd.step(joins, leaves, replace=replace)
        gone = set(crowd.had) - set(crowd.present)
        check_what_they_learned(crowd, gone)
        check_what_they_learned(crowd, {*joins, *sorted(gone)[:1]})
        check_what_they_learned(crowd, {name for name in sorted(crowd.had) if chance.random() < 0.3})


def test_who_left_and_who_joins_later_without_a_new_key_do_not_help_each_other():
    """A join need not replace the key. The newcomer then has the keys of its path as they are, and who left has the
    rekeys that they led through before: if keys could be used twice, the two would read what was sent between."""
    crowd = Watched(2, 1)
    crowd.step(list("abcdefgh"), [])
    crowd.step([], ["a"])
    crowd.step([], ["h"])
    crowd.step(["new"], [], replace=False)
    check_what_they_learned(crowd, {"a", "new"})


def test_nor_where_the_tree_grew_meanwhile():
    crowd = Watched(2, 1)
    crowd.step(list("abcd"), [])
    crowd.step(["e"], [], replace=False)  # a new root above, of which nobody is told
    crowd.step([], [])  # and which derives from itself
    crowd.step([], ["e"])
    crowd.step(["f"], ["b"])
    crowd.step(["new"], [], replace=False)
    check_what_they_learned(crowd, {"e", "new"})


def test_the_search_for_keys_finds_what_can_be_had():
    """The tests above would see a key that leads further: a member that stays has all later group keys."""
    crowd = Watched(2, 1)
    crowd.step(["a", "b", "c", "d"], [])
    start = set(crowd.had["a"])
    for joins, leaves in ([], ["b"]), (["e", "f"], []), ([], ["c", "f"]), ([], []):
        crowd.step(joins, leaves)
    crowd.had["a"] = start
    assert set(crowd.holders) <= crowd.learned_by(["a"])


def test_who_gave_its_place_to_a_moved_member_is_excluded():
    crowd = crowd_of(16)
    gone = [member_of(crowd, f"m{number}") for number in range(10)]
    rekey = crowd.change([], [f"m{number}" for number in range(10)])
    assert tree_change(rekey).moves
    assert all_agree(crowd)
    for member in gone:
        with pytest.raises(Excluded):
            member.process(rekey)


def test_a_moved_member_that_leaves_has_no_key_of_where_it_was():
    crowd = Watched(4, 1)
    crowd.step([f"m{number}" for number in range(64)], [])
    moved = member_of(crowd, "m63")
    crowd.step([], [f"m{number}" for number in range(33)])
    assert moved._place < 62 <= server_of(crowd).tree.places
    crowd.step([], ["m63"])
    check_what_they_learned(crowd, set(crowd.had) - set(crowd.present))


def test_who_missed_a_rekey_is_excluded_from_those_after_it():
    crowd = crowd_of(64)
    far, near = crowd.present.pop("m0"), crowd.present.pop("m63")
    missed = crowd.change([], ["m62"])
    rekey = crowd.change([], ["m61"])
    for member in (far, near):
        with pytest.raises(Excluded):
            member.process(rekey)
        member.process(missed)  # nothing had changed: in their order it takes both
        assert member.process(rekey) == crowd.authority.key


# ---- nonces


def test_pads_do_not_repeat_where_the_randomness_does():
    """Two replicas of one snapshot, or one machine restored from an image: the same state, and the same random bytes.
    Other changes have other nonces all the same; else the exclusive or of two wraps would be that of two keys."""
    snapshot = server_with(64).snapshot()
    one, other = (Lkh().restore(snapshot, seeded(5)) for _ in range(2))
    changes = [
        tree_change(server.change({}, [name], replace_key=True).rekey) for server, name in ((one, "m5"), (other, "m7"))
    ]
    assert changes[0].nonce != changes[1].nonce
    assert not set(cut(changes[0].wrapped_keys)) & set(cut(changes[1].wrapped_keys))


def test_the_same_change_made_by_two_replicas_makes_two_keys():
    """Else packets under the same key would be sealed with the same nonce by two sides of a split group."""
    snapshot = server_with(64).snapshot()
    one, other = (Lkh().restore(snapshot, seeded(seed)) for seed in (5, 6))
    nonces = {tree_change(server.change({}, ["m5"], replace_key=True).rekey).nonce for server in (one, other)}
    assert len(nonces) == 2 and one.key != other.key


def test_a_change_in_another_state_has_another_nonce():
    snapshot = server_with(64).snapshot()
    one, other = (Lkh().restore(snapshot, seeded(5)) for _ in range(2))
    other._random = seeded(9)
    other.change({}, ["m9"], replace_key=True)
    other._random = seeded(5)
    nonces = {tree_change(server.change({}, ["m5"], replace_key=True).rekey).nonce for server in (one, other)}
    assert len(nonces) == 2


def test_members_know_no_record_of_the_authoritys():
    """What members can compute of a root key, the tag of a rekey, confirms no record, nor the other way round."""
    root, salt, raw = bytes(range(32)), bytes(range(16)), b"change"
    assert confirm(root, salt, raw) not in chain(root, salt, raw)
