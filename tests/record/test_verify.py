"""Records that are accepted, and what is found in them."""

from __future__ import annotations

from mcsa.record.verify import verify_record
from tests.record.parts import whole


def test_a_whole_record_is_accepted_and_says_who_was_there():
    one = whole()
    found = verify_record(one.writer.serialised(), one.world.trust())
    alice, bob, carol = (str(one.world.user(name).id) for name in ("alice", "bob", "carol"))
    assert found.countersigned and found.complete and found.ended_by == "departure"
    assert (found.coordinator, found.writer, found.title) == (alice, bob, "board")
    assert {one.user: [epoch.key_epoch for epoch in one.epochs] for one in found.participants} == {
        alice: [1, 2],
        bob: [1, 2],
        carol: [1],
    }
    assert [(key.key_epoch, len(key.participants)) for key in found.keys] == [(1, 3), (2, 2)]
    assert [(noted.user, noted.sentence) for noted in found.ejected] == [(carol, "shouted")]
    assert [noted.user for noted in found.absent] == [str(one.world.user("dave").id)]
    assert [(receipt.user, receipt.sender) for receipt in found.receipts] == [(bob, carol)]
    assert found.messages == {alice: 12, bob: 8, carol: 4}
    assert found.sealed == {bob: 1, carol: 1}
    assert found.countersigned_at == one.now + 1 and found.countersigned_for == str(one.world.host("beta").id)
    assert found.head == one.writer.head and found.entries == len(one.writer)
    assert not found.irregular and not found.missing and not found.unproven_runs
