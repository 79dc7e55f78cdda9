"""What is too much for one message is split, or refused: flushes, flat groups, rosters, answers to repairs."""

from __future__ import annotations

from functools import cache
from zlib import crc32

import pytest

from mcsa.durable_log.record import MAX_RECORD
from mcsa.envelope import MAX_SIZE, payload_hash
from mcsa.errors import Refused
from mcsa.gkm import scheme_named
from mcsa.policy import complete_policy
from mcsa.sealing import SealingKey
from mcsa.v1.authorizer_pb2 import RegisterRequest
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy, RosterEntry, SignedStatement
from services.authorizer import room
from services.authorizer.batch import Joiner
from services.authorizer.group import Flushed, Group
from services.authorizer.members import Member, Members
from services.authorizer.setting import Setting
from tests.services.authorizer.parts import address_of
from tests.world import NOW, World, seeded

OVERHEAD = 2_000  # bytes of an envelope around what it carries: names, certificate, signature
SEALING_KEY = SealingKey.generate("x25519").public
LONG = "a" * 63


@cache
def contribution(gkm: str) -> bytes:
    return scheme_named(gkm).begin(seeded(7)).contribution


def new_group(world: World, **policy: object) -> Group:
    asked = GroupPolicy(**policy)  # type: ignore[arg-type]
    description = GroupDescription(group_id=bytes(16), name="g", address="239.255.64.1", policy=complete_policy(asked))
    setting = Setting(description, bytes(16), SignedStatement(), world.authorizer, "198.51.100.1", seeded(3))
    return Group(setting, setting.gkm(), NOW)


def joiner(
    group: Group, name: str, *, user: str | None = None, sender: bool = False, of: str = "example.org"
) -> Joiner:
    gkm = group.policy.gkm
    own = contribution(gkm)
    if gkm in ("cbt", "kd"):  # in which no two members may have the same
        own = scheme_named(gkm).begin(seeded(crc32(name.encode()))).contribution
    request = RegisterRequest(
        group_id=group.id,
        hpke_public_key=SEALING_KEY,
        hpke_suite="x25519",
        sender=sender,
        address=address_of(name),
        gkm_contribution=own,
        another_user=f"spiffe://{of}/host/{name}" in group.members and not sender,
    )
    whose = None if user is None else f"spiffe://{of}/user/{user}"
    return Joiner(name, request, payload_hash(request) + name.encode(), f"spiffe://{of}/host/{name}", whose)


def flush_all(group: Group, now: float = NOW) -> list[Flushed]:
    """Flushes until nothing is left to do; each of them fits."""
    flushes = []
    while group.batch.due_at is not None:
        flushed = group.flush(now)
        group.committed()
        assert len(flushed.record.SerializeToString()) + OVERHEAD <= MAX_RECORD
        assert len(flushed.record.flushed.update) + OVERHEAD <= MAX_SIZE
        assert all(len(sealed) + OVERHEAD <= MAX_SIZE for _, sealed in flushed.associations)
        flushes.append(flushed)
    return flushes


def filled(group: Group, count: int) -> list[Flushed]:
    for number in range(count):
        group.join(joiner(group, f"h{number}"), NOW)
    return flush_all(group)


def refused(group: Group, newcomer: Joiner) -> Refused:
    with pytest.raises(Refused) as caught:
        group.join(newcomer, NOW)
    assert caught.value.code == "too-many"
    return caught.value


def test_five_thousand_leases_that_lapse_at_once_take_several_flushes(world: World):
    group = new_group(world, gkm="lkh")
    filled(group, 5_500)
    later = NOW + group.policy.lease_s + 1
    for number in range(5_000, 5_500):
        assert group.renew(f"spiffe://example.org/host/h{number}", later)
    assert group.sweep(later) == 5_000
    flushes = flush_all(group, later)
    assert [len(flushed.record.flushed.removed) for flushed in flushes] == [room.LEAVES_AT_ONCE] * 19 + [136]
    assert len({flushed.record.flushed.counters.epoch for flushed in flushes}) == len(flushes)
    assert len(group.members) == 500


def test_who_waits_for_a_change_that_was_split_hears_when_the_last_of_it_is_done(world: World):
    group = new_group(world, gkm="lkh")
    filled(group, room.LEAVES_AT_ONCE + 1)
    for number in range(room.LEAVES_AT_ONCE + 1):
        group.remove_host(f"spiffe://example.org/host/h{number}", NOW)
    group.batch.then.append(lambda now: ["done"])
    first, last = flush_all(group)
    assert (first.then, len(last.then), len(group.members)) == ([], 1, 0)


def test_who_is_thrown_out_goes_first_and_only_that_flush_is_an_ejection(world: World):
    group = new_group(world, gkm="lkh")
    filled(group, 700)
    for number in range(600):
        group.remove_host(f"spiffe://example.org/host/h{number}", NOW)
    group.remove_host("spiffe://example.org/host/h699", NOW, eject=True)
    ejected, *later = [flushed.record.flushed for flushed in flush_all(group)]
    assert "spiffe://example.org/host/h699" in ejected.removed
    assert len(later) == 2


def test_users_that_leave_are_split_too(world: World):
    group = new_group(world, gkm="lkh")
    for number in range(600):
        group.join(joiner(group, f"h{number}", user=f"u{number}"), NOW)
    flush_all(group)
    for number in range(600):
        assert group.remove_user(f"spiffe://example.org/user/u{number}", NOW)
        assert not group.remove_user(f"spiffe://example.org/user/u{number}", NOW, host="spiffe://example.org/host/h1x")
    assert len(flush_all(group)) == 3
    assert not len(group.members)


@pytest.mark.parametrize("gkm", ["lkh", "gkmp", "cbt"])
def test_a_flush_fits_with_the_longest_names_and_as_many_members_as_the_protocol_holds(world: World, gkm: str):
    group = new_group(world, gkm=gkm)
    filled(group, scheme_named(gkm).members_at_most or 4_000)
    for number in range(1_000):
        group.remove_host(f"spiffe://example.org/host/h{number}", NOW)
    flush_all(group)
    for number in range(900):
        name = f"{number:04}{LONG[4:]}"
        group.join(joiner(group, name, user=name, sender=True, of=LONG), NOW)
    for number in range(1_000, 1_900):
        group.remove_host(f"spiffe://example.org/host/h{number}", NOW)
    flushes = flush_all(group)
    assert max(len(flushed.record.flushed.changed) for flushed in flushes) > 300
    assert any(flushed.record.flushed.removed and flushed.record.flushed.changed for flushed in flushes)


def test_a_flat_group_that_is_full_refuses_newcomers_and_says_what_to_do(world: World):
    group = new_group(world, gkm="gkmp")
    at_most = scheme_named("gkmp").members_at_most
    assert at_most is not None
    for number in range(at_most):
        group.join(joiner(group, f"h{number}"), NOW)
    refusal = refused(group, joiner(group, "one-more"))
    assert refusal.rule == "members" and "lkh" in refusal.sentence
    assert group.join(joiner(group, "h1"), NOW) is not None, "a repeated registration takes the place of the first"
    flush_all(group)
    assert refused(group, joiner(group, "one-more")).rule == "members"
    group.join(joiner(group, "h2"), NOW)
    flush_all(group)
    assert len(group.members) == at_most


def test_a_tree_has_no_such_bound():
    assert scheme_named("lkh").members_at_most is None
    room.check_members(scheme_named("lkh"), 10_000_000)


def test_a_roster_that_is_full_takes_receivers_and_who_is_on_it_already(world: World):
    group = new_group(world, gkm="lkh")
    number = 0
    with pytest.raises(Refused) as caught:
        for number in range(10_000):
            group.join(joiner(group, f"{number:04}{LONG[4:]}", user=LONG, sender=True, of=LONG), NOW)
    assert (caught.value.code, caught.value.rule) == ("too-many", "senders")
    assert "receiver" in caught.value.sentence
    assert number > 900
    flush_all(group)
    assert len(group.roster) == number + 1 and group.roster.size <= room.ROSTER_SIZE
    group.join(joiner(group, f"0001{LONG[4:]}", user=LONG, sender=True, of=LONG), NOW)
    group.join(joiner(group, "listener"), NOW)
    flush_all(group)
    assert "spiffe://example.org/host/listener" in group.members
    assert len(group.roster) == number + 1


def test_a_host_speaks_for_so_many_users_and_no_more(world: World):
    group = new_group(world, gkm="lkh")
    for number in range(room.USERS_OF_HOST):
        group.join(joiner(group, "busy", user=f"u{number}"), NOW)
        flush_all(group)
    assert refused(group, joiner(group, "busy", user="one-more")).rule == "users"
    group.join(joiner(group, "busy", user="u7"), NOW)
    flush_all(group)
    member = group.members.get("spiffe://example.org/host/busy")
    assert member is not None and len(member.users) == room.USERS_OF_HOST


def test_a_repair_of_long_updates_comes_in_several_answers(world: World):
    group = new_group(world, gkm="gkmp")
    filled(group, 1_000)
    begin = group.number
    for number in range(20):
        group.remove_host(f"spiffe://example.org/host/h{number}", NOW)
        flush_all(group)
    have, answers = begin, 0
    while have < group.number:
        updates = group.updates_since(have)
        assert updates and sum(map(len, updates)) + OVERHEAD <= MAX_SIZE
        have += len(updates)
        answers += 1
    assert answers > 1
    assert group.updates_since(group.number) == []


def test_the_size_of_a_roster_is_that_of_its_entries():
    roster = room.Roster()
    entries = [RosterEntry(sender_id=n % 5, host=f"h{n}", users=["u"] * n) for n in range(20)]
    for entry in entries:
        roster.put(entry)
    roster.drop(3)
    roster.drop(17)
    assert roster.size == sum(entry.ByteSize() for entry in roster.values())
    assert [entry.sender_id for entry in roster.values()] == [0, 1, 2, 4]


def test_room_is_taken_by_names_and_by_leaves():
    table = Members(bytes(32))
    table.put(Member("spiffe://example.org/host/h", "", None, {"spiffe://example.org/user/u"}))
    full = room.Room()
    assert all(full.take(["x"], leaves=True) for _ in range(room.LEAVES_AT_ONCE))
    assert full.take(["x"], leaves=False)
    assert not full.take(["x"], leaves=True)
    assert not full.take([], leaves=False), "once one is too many, so are all that follow"
    assert not room.Room().take(["x" * room.NAMES_AT_ONCE], leaves=False)
