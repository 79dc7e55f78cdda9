"""Evidence of forged packets is bounded, however many and however large they are."""

from __future__ import annotations

from mcsa.esp.relayed import Origin
from mcsa.membership import Membership
from mcsa.v1.types_pb2 import GroupDescription, RosterEntry
from services.msm.events import SourceForged
from services.msm.forgeries import KEPT, KEPT_BYTES, Forgeries, remark
from tests.world import NOW, World, seeded

ALPHA, GAMMA = "spiffe://example.org/host/alpha", "spiffe://example.org/host/gamma"


def member_of(world: World, group_id: bytes) -> Membership:
    authorizer = str(world.authorizer.id)
    group = GroupDescription(group_id=group_id)
    made = Membership(group, authorizer, authorizer, bytes(16), GAMMA, world.trust(), seeded(1))
    entries = RosterEntry(sender_id=3, host=ALPHA), RosterEntry(sender_id=7, host=GAMMA, relay=True)
    made._senders.change((), entries)
    return made


def forged(
    group_id: bytes, sequence: int, size: int = 100, relay: int | None = None, sender_id: int = 3
) -> SourceForged:
    return SourceForged(group_id, Origin(sender_id, 5, sequence), "source-mac", relay, "198.51.100.2", bytes(size))


def test_it_says_in_whose_name_and_by_whom_it_came(world: World):
    group_id, kept = bytes(16), Forgeries()
    direct = kept.take(forged(group_id, 1), member_of(world, group_id), NOW)
    assert (direct.host, direct.relay, direct.sequence, direct.time_ms) == (ALPHA, "", 1, round(NOW * 1000))
    assert "in the name of spiffe://example.org/host/alpha, from 198.51.100.2: source-mac" in remark(direct)
    relayed = kept.take(forged(group_id, 2, relay=7, sender_id=99), member_of(world, group_id), NOW)
    assert (relayed.host, relayed.relay) == ("", GAMMA)
    assert "in the name of sender 99, from 198.51.100.2, by the relaying agent" in remark(relayed)


def test_the_last_of_each_group_are_kept_and_all_fit_into_an_answer(world: World):
    one, other, kept = bytes(16), bytes([1] * 16), Forgeries()
    kept.take(forged(other, 1), member_of(world, other), NOW)
    for sequence in range(100):
        kept.take(forged(one, sequence), member_of(world, one), NOW)
    assert [each.sequence for each in kept.of(one)] == list(range(100 - KEPT, 100))
    assert len(kept.of(other)) == 1
    for sequence in range(10):
        kept.take(forged(one, sequence, size=65_000), member_of(world, one), NOW)
    sizes = [each.ByteSize() for group_id in (one, other) for each in kept.of(group_id)]
    assert sum(sizes) <= KEPT_BYTES and kept.of(one)[-1].sequence == 9
    kept.forget(one)
    assert not kept.of(one)
