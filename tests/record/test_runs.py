"""Activates in a record: what they have to carry."""

from __future__ import annotations

from typing import Any

import pytest

from mcsa.errors import Rejected
from mcsa.record.verify import verify_record
from mcsa.v1 import conference_pb2 as wire
from tests.record.parts import Conference


@pytest.fixture
def one() -> Conference:
    conference = Conference()
    conference.introduce("alice", "bob")
    return conference


def check_wrong(one: Conference, reason: str) -> None:
    """Refused; where it is not strict, noted, and it proves nothing."""
    one.close()
    one.countersign()
    with pytest.raises(Rejected) as caught:
        verify_record(one.writer.serialised(), one.world.trust())
    assert caught.value.cause == "run" and reason in caught.value.detail
    found = verify_record(one.writer.serialised(), one.world.trust(), strict=False)
    assert len(found.irregular) == 1 and not found.unproven_runs


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"conference_id": bytes(16)}, "wrong-run"),
        ({"key_epoch": 9}, "wrong-run"),
        ({"run_hash": bytes(32)}, "wrong-run"),
        ({"transcript_hash": bytes(32)}, "different transcripts"),
        ({"confirmation": b"d" * 32}, "different transcripts or confirmations"),
        ({"time_ms": 0}, "signed more than 600 s"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_participation_in_something_else_proves_nothing(one: Conference, changes: dict[str, Any], reason: str):
    start = one.start_run("alice", "bob")
    one.activate(start, [one.participation("alice", start), one.participation("bob", start, **changes)])
    check_wrong(one, reason)


def test_all_may_not_agree_on_a_transcript_that_is_not_the_records(one: Conference):
    start = one.start_run("alice", "bob")
    one.rounds[1, 1] = b"something else"
    one.activate(start, [one.participation(name, start) for name in ("alice", "bob")])
    check_wrong(one, "are not those that all signed")


def test_a_confirmation_has_a_size(one: Conference):
    start = one.start_run("alice", "bob")
    one.activate(start, [one.participation(name, start, confirmation=b"") for name in ("alice", "bob")])
    check_wrong(one, "32 bytes")


def test_everybody_has_to_sign_in_its_place(one: Conference):
    start = one.start_run("alice", "bob")
    one.activate(start, [one.participation("alice", start)])
    check_wrong(one, "1 participations for a roster of 2")


@pytest.mark.parametrize("names", [("bob", "alice"), ("alice", "alice"), ("alice", "carol")])
def test_nobody_can_sign_in_anothers_place(one: Conference, names: tuple[str, ...]):
    start = one.start_run("alice", "bob")
    one.activate(start, [one.participation(name, start) for name in names])
    check_wrong(one, "not the one in the roster")


def test_a_participation_by_a_stranger_proves_nothing(one: Conference):
    """Its fingerprint is in the roster that the Coordinator made, but no anchor knows it."""
    stranger = Conference().speaker("bob")
    roster = [one.participant("alice"), one.participant("bob")]
    roster[1].certificate_fingerprint = stranger.user.identity.fingerprint
    start = one.start_run("alice", "bob", roster=roster)
    own = one.participation("alice", start)
    one.speakers["bob"].user, known = stranger.user, one.speakers["bob"].user
    signed = one.participation("bob", start)
    one.speakers["bob"].user = known
    one.activate(start, [own, signed])
    check_wrong(one, "certificate")


@pytest.mark.parametrize("roster", [[], ["bob", "alice"], ["alice", "bob", "bob"]], ids=str)
def test_a_roster_begins_with_the_coordinator_and_names_everybody_once(one: Conference, roster: list[str]):
    start = one.start_run("alice", "bob", roster=[one.participant(name) for name in roster])
    one.activate(start, [one.participation(name, start) for name in roster])
    check_wrong(one, "the roster does not begin with the Coordinator")


def test_who_was_thrown_out_is_in_no_later_roster(one: Conference):
    one.introduce("carol")
    one.eject("carol")
    start = one.start_run("alice", "bob", roster=[one.participant("alice"), one.participant("carol")])
    one.activate(start, [one.participation(name, start) for name in ("alice", "carol")])
    check_wrong(one, "was thrown out before")


def test_an_aborted_run_is_not_activated(one: Conference):
    start = one.start_run("alice", "bob")
    one.say("alice", abort=wire.Abort(run=start.run, run_hash=one.run_hash))
    one.activate(start, [one.participation(name, start) for name in ("alice", "bob")])
    check_wrong(one, "aborted before")


def test_an_activate_of_another_run_proves_nothing(one: Conference):
    start = one.start_run("alice", "bob")
    one.activate(start, [one.participation(name, start) for name in ("alice", "bob")], run=7)
    check_wrong(one, "for a roster of 2")


def test_an_activate_without_its_run_proves_nothing(one: Conference):
    start = one.start_run("alice", "bob")
    one.activate(start, [one.participation(name, start) for name in ("alice", "bob")], run_hash=bytes(32))
    check_wrong(one, "no RunStart of this record")


def test_key_epochs_rise(one: Conference):
    one.key("alice", "bob")
    start = one.start_run("alice", "bob", key_epoch=1)
    one.activate(start, [one.participation(name, start) for name in ("alice", "bob")])
    check_wrong(one, "key epoch 1 follows key epoch 1")


def test_a_scheme_that_nobody_knows_proves_nothing(one: Conference):
    start = one.start_run("alice", "bob", ckgds="rot13")
    one.activate(start, [one.participation(name, start) for name in ("alice", "bob")])
    check_wrong(one, "no key scheme 'rot13'")


def test_rounds_of_others_and_rounds_too_many_change_no_transcript(one: Conference):
    """Otherwise whoever is in the group could make a run unprovable."""
    one.introduce("carol")
    start = one.start_run("alice", "bob")
    one.say_round("carol", 1)
    one.say_round("bob", 99)
    one.say_round("bob", 1)  # again
    one.activate(start, [one.participation(name, start) for name in ("alice", "bob")])
    assert len(verify_record(one.writer.serialised(), one.world.trust()).keys) == 1


def test_a_round_may_stand_behind_the_activate(one: Conference):
    """Streams overtake each other; a record that is still open says what it lacks so far."""
    start = one.start_run("alice", "bob")
    late = one.speaker("bob").sign(run_round=wire.RunRound(run=1, run_hash=one.run_hash, round=2, payload=b"late"))
    participations = [one.participation(name, start) for name in ("alice", "bob")]
    one.activate(start, participations)
    assert len(verify_record(one.writer.serialised(), one.world.trust()).keys) == 1
    one.record(late)
    assert len(verify_record(one.writer.serialised(), one.world.trust()).keys) == 1


def test_a_run_of_which_messages_are_still_to_come_is_unproven(one: Conference):
    start = one.start_run("alice", "bob")
    bob = one.speaker("bob")
    another = wire.RunRound(run=1, run_hash=one.run_hash, round=2, payload=b"late")
    late = bob.sign(run_round=another)
    one.rounds[2, 1] = b"to come" if not late else b"".join(piece.body for piece in late)
    one.activate(start, [one.participation(name, start) for name in ("alice", "bob")])
    found = verify_record(one.writer.serialised(), one.world.trust())
    assert found.unproven_runs == (1,) and not found.keys and not found.participants
