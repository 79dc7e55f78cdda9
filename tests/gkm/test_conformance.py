"""Every group key management plug-in found keeps the same promises."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mcsa.errors import Refused, Rejected
from mcsa.gkm import Excluded, Member, Scheme, scheme_named, schemes
from mcsa.keys import GroupKey
from tests.world import seeded

ALL = pytest.mark.parametrize("scheme", schemes().values(), ids=schemes().keys())


def no_randomness(size: int) -> bytes:
    raise AssertionError("a replica that repeats a change draws nothing")


class Crowd:
    """An authority and the member halves of everybody that was ever in."""

    def __init__(self, scheme: Scheme, seed: int = 1) -> None:
        self.scheme = scheme
        self.random = seeded(seed)
        self.authority = scheme.create(self.random)
        self.replica = scheme.restore(self.authority.snapshot(), no_randomness)
        self.present: dict[str, Member] = {}
        self.gone: list[tuple[Member, set[GroupKey]]] = []
        self.rekeys: list[bytes] = []
        self.keys: list[GroupKey] = []

    def change(self, joins: list[str] = [], leaves: list[str] = [], *, replace_key: bool = True) -> bytes:  # noqa: B006
        halves = {name: self.scheme.begin(self.random) for name in joins}
        contributions = {name: half.contribution for name, half in halves.items()}
        for contribution in contributions.values():
            self.authority.check_contribution(contribution)
        change = self.authority.change(contributions, leaves, replace_key=replace_key)
        self.replica.apply(change.record)
        assert self.replica.key == self.authority.key
        for name in [*leaves, *joins]:
            if name in self.present:
                self.gone.append((self.present.pop(name), set(self.keys)))
        for member in self.present.values():
            if change.rekey:
                member.process(change.rekey)
        for name, half in halves.items():
            self.present[name] = half.finish(change.welcomes[name])
        self.rekeys.append(change.rekey)
        self.keys.append(self.authority.key)
        return change.rekey


@ALL
def test_it_says_what_it_is(scheme: Scheme):
    assert scheme.name and scheme.title
    promises = scheme.promises
    assert promises.trusted_with_keys and promises.join_cost and promises.leave_cost
    # the tests below hold every scheme to both: one without them can't be offered
    assert promises.forward_secrecy and promises.backward_secrecy
    assert scheme_named(scheme.name) is scheme


@ALL
@pytest.mark.parametrize("size", [1, 2, 3, 10, 40])
def test_all_hold_the_same_key_after_every_change(scheme: Scheme, size: int):
    crowd = Crowd(scheme)
    names = [f"m{number}" for number in range(size)]
    for name in names:
        crowd.change([name])
        assert {member.key for member in crowd.present.values()} == {crowd.authority.key}
    crowd.change()
    assert {member.key for member in crowd.present.values()} == {crowd.authority.key}
    for name in names[:-1]:
        crowd.change([], [name])
        assert {member.key for member in crowd.present.values()} == {crowd.authority.key}
    assert len(set(crowd.keys)) == len(crowd.keys)


@ALL
def test_who_left_learns_no_later_key_even_together(scheme: Scheme):
    crowd = Crowd(scheme)
    crowd.change([f"m{number}" for number in range(8)])
    steps: list[tuple[list[str], list[str]]] = [([], ["m3"]), ([], ["m5"]), ([], ["m0"]), (["new"], []), ([], [])]
    for joins, leaves in steps:
        rekey = crowd.change(joins, leaves)
        colluders = [member for member, _ in crowd.gone]
        for colluder in colluders * 2:
            with pytest.raises((Excluded, Rejected)):
                colluder.process(rekey)
            assert colluder.key != crowd.authority.key


@ALL
def test_a_newcomer_opens_no_earlier_rekey(scheme: Scheme):
    crowd = Crowd(scheme)
    crowd.change(["a", "b", "c"])
    crowd.change([], ["b"])
    crowd.change(["d"])
    crowd.change()
    crowd.change(["newcomer"])
    earlier_keys = set(crowd.keys[:-1])
    newcomer = crowd.present["newcomer"]
    for rekey in crowd.rekeys:
        with pytest.raises((Excluded, Rejected)):
            newcomer.process(rekey)
        assert newcomer.key not in earlier_keys


@ALL
def test_a_leave_fits_into_a_message_with_as_many_members_as_it_holds(scheme: Scheme):
    authority, random = scheme.create(seeded(1)), seeded(2)
    count = 4_096 if scheme.members_at_most is None else scheme.members_at_most
    authority.change({f"m{n}": scheme.begin(random).contribution for n in range(count)}, [], replace_key=True)
    rekey = authority.change({}, ["m7"], replace_key=True).rekey
    assert len(rekey) < (10_000 if scheme.members_at_most is None else 350_000)


@ALL
def test_a_join_may_leave_the_key_as_it_is(scheme: Scheme):
    crowd = Crowd(scheme)
    crowd.change(["a"])
    before = crowd.authority.key
    rekey = crowd.change(["b"], replace_key=False)
    assert rekey == b""
    assert crowd.present["b"].key == before == crowd.authority.key


@ALL
def test_joining_again_takes_the_old_place(scheme: Scheme):
    crowd = Crowd(scheme)
    crowd.change(["a", "b"])
    old = crowd.present["a"]
    crowd.change(["a"], ["a"])
    assert crowd.present["a"].key == crowd.present["b"].key == crowd.authority.key != old.key


@ALL
def test_garbage_changes_nothing_and_raises_one_kind_of_error(scheme: Scheme):
    crowd = Crowd(scheme)
    crowd.change(["a", "b", "c"])
    member, key, random = crowd.present["a"], crowd.authority.key, seeded(3)
    good = Crowd(scheme, seed=2)
    good.change(["a", "b", "c"])
    foreign = [good.change([], ["c"]), good.change()]
    garbage = [b"", *(random(size) for size in (1, 7, 40, 80, 500)), *foreign, *(raw[:-1] for raw in foreign)]
    for raw in garbage:
        with pytest.raises((Rejected, Excluded)):
            member.process(raw)
        assert member.key == key
    for raw in [b"", b"x", bytes(32), bytes(31), random(33)]:
        if raw or scheme.begin(random).contribution:  # a scheme may ask for nothing; then it takes nothing else
            with pytest.raises(Rejected):
                crowd.authority.check_contribution(raw)
        with pytest.raises(Rejected):
            scheme.begin(random).finish(raw)


@ALL
def test_a_rekey_twice_or_late_is_refused(scheme: Scheme):
    crowd = Crowd(scheme)
    crowd.change(["a", "b", "c"])
    rekeys = [crowd.change(), crowd.change([], ["c"]), crowd.change([], ["b"]), crowd.change()]
    member = crowd.present["a"]
    for raw in rekeys:
        with pytest.raises((Rejected, Excluded)):
            member.process(raw)
    assert member.key == crowd.authority.key


@ALL
@pytest.mark.parametrize("how", ["by its records", "from a snapshot"])
def test_another_instance_goes_on_where_the_first_ended(scheme: Scheme, how: str):
    crowd = Crowd(scheme)
    crowd.change([f"m{number}" for number in range(20)])
    crowd.change(["late"], ["m3", "m4"])
    crowd.change([], ["m5"])
    other = crowd.replica if how == "by its records" else scheme.restore(crowd.authority.snapshot(), crowd.random)
    other._random = crowd.random  # type: ignore[attr-defined] # it leads from now on
    crowd.authority, crowd.replica = other, scheme.restore(other.snapshot(), no_randomness)
    for joins, leaves in ([], ["m7"]), (["new"], []), (["newer"], ["m8", "late"]), ([], []):
        crowd.change(joins, leaves)
        assert {member.key for member in crowd.present.values()} == {other.key}


@ALL
def test_a_record_of_garbage_changes_nothing(scheme: Scheme):
    crowd = Crowd(scheme)
    crowd.change(["a", "b", "c"])
    key, snapshot, random = crowd.authority.key, crowd.authority.snapshot(), seeded(3)
    for raw in [b"x", *(random(size) for size in (1, 7, 40, 80, 500)), snapshot[:-1]]:
        with pytest.raises(Rejected):
            crowd.authority.apply(raw)
        with pytest.raises(Rejected):
            scheme.restore(raw, random)
        assert crowd.authority.key == key


@ALL
def test_a_change_shows_no_secret_by_accident(scheme: Scheme):
    authority = scheme.create(seeded(1))
    change = authority.change({"a": scheme.begin(seeded(2)).contribution}, [], replace_key=True)
    assert change.welcomes and change.record
    assert "welcomes" not in repr(change) and "record" not in repr(change)


@ALL
def test_who_leaves_and_was_no_member_changes_no_roster(scheme: Scheme):
    crowd = Crowd(scheme)
    crowd.change(["a", "b"])
    crowd.change([], ["nobody"])
    assert {member.key for member in crowd.present.values()} == {crowd.authority.key}


def test_an_unknown_scheme_is_refused_with_the_names_there_are():
    with pytest.raises(Refused, match="gkmp") as caught:
        scheme_named("none")
    assert caught.value.code == "unknown-gkm"


class Churn(RuleBasedStateMachine):
    """Any sequence of joins, leaves and rekeys."""

    scheme: Scheme

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.crowd = Crowd(self.scheme, seed)
        self.count = 0

    @rule(joining=st.integers(0, 3), choice=st.lists(st.integers(0, 50), max_size=3), replace=st.booleans())
    def change(self, joining: int, choice: list[int], replace: bool) -> None:
        present = list(self.crowd.present)
        leaves = sorted({present[number % len(present)] for number in choice}) if present else []
        joins = [f"m{self.count + number}" for number in range(joining)]
        self.count += joining
        before = self.crowd.authority.key
        self.crowd.change(joins, leaves, replace_key=replace)
        if leaves:
            assert self.crowd.authority.key != before

    @invariant()
    def present_members_agree(self) -> None:
        assert {member.key for member in self.crowd.present.values()} <= {self.crowd.authority.key}

    @invariant()
    def departed_members_know_nothing_new(self) -> None:
        for member, known in self.crowd.gone:
            assert self.crowd.authority.key in known or member.key != self.crowd.authority.key


@ALL
def test_any_sequence_of_changes(scheme: Scheme):
    machine = type(f"Churn_{scheme.name}", (Churn,), {"scheme": scheme})
    case = machine.TestCase  # type: ignore[attr-defined]
    case.settings = settings(
        max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
    )
    case().runTest()
