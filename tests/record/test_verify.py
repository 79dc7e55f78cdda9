"""Records that are accepted, and what is found in them."""

from __future__ import annotations

from typing import Any

import pytest

from mcsa.errors import Rejected
from mcsa.record.verify import verify_record
from mcsa.statements import EVICTION_LABEL
from mcsa.v1 import conference_pb2 as wire
from tests.record.parts import Conference, whole
from tests.world import NOW, World


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


# ---- time


def test_certificates_that_expired_since_are_good_for_what_was_signed_then():
    years_ago = World(now=NOW - 5 * 365 * 86_400.0)
    one = whole(Conference(years_ago))
    with pytest.raises(Rejected):
        years_ago.trust().verify_chain(years_ago.user("alice").chain, NOW)
    assert verify_record(one.writer.serialised(), years_ago.trust()).complete


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_certificates_that_had_expired_then_prove_nothing(name: str):
    one = Conference(World(now=NOW))
    one.introduce("alice", "bob")
    one.now = NOW + 366 * 86_400.0
    one.seal(name)
    with pytest.raises(Rejected) as caught:
        verify_record(one.writer.serialised(), one.world.trust())
    assert (caught.value.cause, caught.value.detail) == ("certificate", "entry 4: not valid now")


# ---- open, or not whole


def test_an_open_record_is_verified_as_far_as_it_goes():
    one = Conference()
    one.introduce("alice", "bob")
    found = verify_record(one.writer.serialised(), one.world.trust())
    assert not found.countersigned and not found.complete and found.countersigned_at == 0.0
    assert found.missing == ("the end: neither the Coordinator's closing nor the writer's departure is here",)


def test_an_open_record_of_nothing_but_the_description_is_good():
    one = Conference()
    assert verify_record(one.writer.serialised(), one.world.trust()).entries == 1


def test_the_end_of_who_leaves_first_is_its_own_departure():
    one = Conference()
    one.introduce("alice", "bob", "carol")
    one.say("bob", departure=wire.Departure(positions=one.positions()))
    one.countersign()
    found = verify_record(one.writer.serialised(), one.world.trust())
    assert found.complete and found.ended_by == "departure"


def test_somebody_elses_departure_ends_nothing():
    one = Conference()
    one.introduce("alice", "bob", "carol")
    one.say("carol", departure=wire.Departure(reason="late", positions=one.positions()))
    found = verify_record(one.writer.serialised(), one.world.trust())
    assert [(noted.user, noted.sentence) for noted in found.departed] == [(str(one.world.user("carol").id), "late")]
    assert found.ended_by == "" and not found.complete


def test_who_is_thrown_out_has_a_record_that_ends_there():
    one = Conference()
    one.introduce("alice", "bob")
    one.eject("bob")
    one.countersign()
    found = verify_record(one.writer.serialised(), one.world.trust())
    assert found.countersigned and found.ended_by == "ejection" and not found.complete


def test_an_honest_writer_that_lacks_messages_is_heard_where_one_asks_for_it():
    one = Conference()
    one.introduce("alice", "bob")
    one.speaker("carol").sign(introduction=wire.Introduction())  # had left before bob came
    one.close()
    one.countersign()
    with pytest.raises(Rejected) as caught:
        verify_record(one.writer.serialised(), one.world.trust())
    assert caught.value.cause == "incomplete"
    found = verify_record(one.writer.serialised(), one.world.trust(), strict=False)
    assert found.countersigned and not found.complete and len(found.missing) == 1


def test_messages_that_came_after_the_closing_count():
    """Streams overtake each other: the Coordinator had carol's message before its Closing, the writer after it."""
    one = Conference()
    one.introduce("alice", "bob", "carol")
    late = one.speaker("carol").sign(sealed=wire.SealedMessage(sframe=b"late"))
    one.close()
    one.record(late)
    one.countersign()
    assert verify_record(one.writer.serialised(), one.world.trust()).complete


# ---- streams that begin late


def joined_late(*, with_status: bool) -> Conference:
    one = Conference()
    one.introduce("alice", "bob")
    carol = one.speaker("carol")
    carol.sign(introduction=wire.Introduction())
    carol.sign(sealed=wire.SealedMessage(sframe=b"lost"))
    third = carol.sign(sealed=wire.SealedMessage(sframe=b"heard"))
    if with_status:
        one.record(carol.status(oldest=3))
    else:
        third[0].certificate_chain.extend(carol.user.chain)
    one.record(third)
    one.close()
    one.countersign()
    return one


def test_a_stream_begins_where_its_sender_says_that_it_has_nothing_older():
    one = joined_late(with_status=True)
    found = verify_record(one.writer.serialised(), one.world.trust())
    assert not found.complete
    assert found.missing == (f"2 messages of {one.world.user('carol').id}, which it could not repeat any more",)


def test_a_stream_that_begins_late_without_its_senders_word_is_not_whole():
    one = joined_late(with_status=False)
    with pytest.raises(Rejected) as caught:
        verify_record(one.writer.serialised(), one.world.trust())
    assert caught.value.cause == "incomplete"
    found = verify_record(one.writer.serialised(), one.world.trust(), strict=False)
    assert found.missing == (f"messages 1 to 2 of {one.world.user('carol').id}",)


def test_a_status_excuses_no_other_gap():
    one = Conference()
    one.introduce("alice", "bob", "carol")
    carol = one.speaker("carol")
    carol.sign(sealed=wire.SealedMessage(sframe=b"2"))
    third = carol.sign(sealed=wire.SealedMessage(sframe=b"3"))
    one.record(carol.status(oldest=2))
    one.record(third)
    with pytest.raises(Rejected) as caught:
        verify_record(one.writer.serialised(), one.world.trust())
    assert caught.value.cause == "gap"


# ---- what participants should not have signed


@pytest.mark.parametrize(
    "body",
    [
        {"closing": wire.Closing()},
        {"run_start": wire.RunStart(run=9)},
        {"activate": wire.Activate(run=9)},
        {"abort": wire.Abort(run=9)},
        {"ejection": wire.Ejection()},
        {"absence": wire.Absence(user="spiffe://example.org/user/alice")},
        {"call": wire.ConferenceCall()},
    ],
    ids=lambda body: next(iter(body)),
)
def test_what_only_the_coordinator_can_say_is_noted_and_counts_for_nothing(body: dict[str, Any]):
    one = Conference()
    one.introduce("alice", "bob", "carol")
    one.say("carol", **body)
    one.close()
    one.countersign()
    found = verify_record(one.writer.serialised(), one.world.trust())
    assert [noted.entry for noted in found.irregular] == [5]
    assert found.complete and not found.ejected and not found.absent and not found.keys


def test_a_receipt_for_other_bytes_is_noted():
    one = Conference()
    one.introduce("alice", "bob", "carol")
    one.receipt("carol", one.seal("bob"), message_hash=bytes(32))
    found = verify_record(one.writer.serialised(), one.world.trust())
    assert [noted.sentence for noted in found.irregular] == ["a receipt for other bytes than those of entry 5"]
    assert not found.receipts


@pytest.mark.parametrize(
    ("signer", "changes"),
    [("carol", {}), ("alice", {"conference_id": bytes(16)})],
)
def test_an_ejection_that_the_coordinator_did_not_sign_ejects_nobody(signer: str, changes: dict[str, Any]):
    one = Conference()
    one.introduce("alice", "bob", "carol")
    one.eject("carol", signer, **changes)
    one.seal("carol")
    with pytest.raises(Rejected) as caught:
        verify_record(one.writer.serialised(), one.world.trust())
    assert caught.value.cause == "ejection"
    found = verify_record(one.writer.serialised(), one.world.trust(), strict=False)
    assert not found.ejected and len(found.irregular) == 1


def test_a_malformed_ejection_ejects_nobody():
    one = Conference()
    one.introduce("alice", "bob")
    signed = one.world.user("alice").sign_statement(EVICTION_LABEL, b"\xff")
    one.say("alice", ejection=wire.Ejection(eviction=signed))
    with pytest.raises(Rejected) as caught:
        verify_record(one.writer.serialised(), one.world.trust())
    assert caught.value.cause == "ejection"


def test_who_is_thrown_out_is_not_heard_any_more():
    one = Conference()
    one.introduce("alice", "bob", "carol")
    one.eject("carol")
    one.seal("carol")
    with pytest.raises(Rejected) as caught:
        verify_record(one.writer.serialised(), one.world.trust())
    assert caught.value.cause == "ejected" and "entry 5" in caught.value.detail


def test_an_accusation_is_judged_again():
    one = Conference()
    one.introduce("alice", "bob", "carol")
    carol = one.speaker("carol")
    twice: list[wire.Fragment] = []
    for text in (b"yes", b"no"):
        carol.last = 1
        twice += carol.sign(sealed=wire.SealedMessage(sframe=text))
    evidence = wire.Accusation(run=1, cheater=carol.name, kind="equivocation", evidence=twice)
    one.say("bob", accusation=evidence)
    one.say("bob", accusation=wire.Accusation(run=1, cheater=carol.name, kind="equivocation", evidence=twice[:1]))
    found = verify_record(one.writer.serialised(), one.world.trust())
    assert [(noted.user, noted.sentence) for noted in found.cheaters] == [(carol.name, "equivocation")]
    assert [noted.entry for noted in found.irregular] == [6]
