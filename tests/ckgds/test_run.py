"""Runs of all key schemes inside their wrapper: who holds the key, who is caught, what is rejected."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from mcsa.ckgds.bd import BurmesterDesmedt
from mcsa.ckgds.interface import schemes
from mcsa.ckgds.participation import sign_participation, verify_participation
from mcsa.ckgds.run import OPEN_WITHIN
from mcsa.errors import Refused, Rejected
from mcsa.v1.conference_pb2 import (
    Abort,
    Accusation,
    Activate,
    ControlMessage,
    Opening,
    Participant,
    Participation,
    RunConfirmation,
    RunRound,
)
from mcsa.v1.types_pb2 import SignedStatement
from tests.ckgds.parts import CONFERENCE, Runs, process_of
from tests.world import NOW, World

ALL = sorted(schemes())
WORLD = World()


def played(ckgds: str = "bd", size: int = 3, shuffle: int | None = None, **options: object) -> Runs:
    runs = Runs(WORLD, ckgds, size, **options)  # type: ignore[arg-type]
    runs.begin()
    runs.play(shuffle)
    return runs


def keys(runs: Runs) -> set[bytes]:
    return {outcome.key.reveal() for outcome in runs.established()}


@pytest.mark.parametrize("shuffle", [None, 1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("ckgds", ALL)
def test_all_hold_the_same_key(ckgds: str, size: int, shuffle: int | None):
    runs = played(ckgds, size, shuffle)
    assert len(runs.established()) == size
    assert len(keys(runs)) == 1
    assert all(outcome.participants == runs.runs[0].roster for outcome in runs.established())
    assert all(len(outcome.participations) == size for outcome in runs.established())
    assert not runs.rejected


@pytest.mark.parametrize("ckgds", ALL)
def test_another_run_epoch_conference_or_randomness_is_another_key(ckgds: str):
    found = [
        keys(played(ckgds)),
        keys(played(ckgds, run=2)),
        keys(played(ckgds, key_epoch=101)),
        keys(played(ckgds, conference_id=b"d" * 16)),
        keys(played(ckgds, seed=2)),
    ]
    assert len(set.union(*found)) == len(found)


def test_without_everybodys_confirmation_nobody_has_a_key():
    """The last participant's confirmation never arrives."""
    runs = played(
        tamper=lambda index, message: [] if index == 2 and message.HasField("run_confirmation") else [message]
    )
    assert not runs.outcome
    runs.wait()
    assert runs.failed(0).absent == (str(runs.users[2].id),)
    assert all(not runs.established() for _ in runs.runs)


def test_silence_in_a_round_is_absence_and_names_who_was_silent():
    runs = played(deaf={1})
    runs.wait()
    assert runs.failed(0).absent == (str(runs.users[1].id),)
    assert not runs.failed(0).cheaters
    assert runs.failed(2).reason.startswith("nothing heard in time")


def test_a_silent_coordinator_ends_the_run_for_the_others():
    runs = played(deaf={0})
    runs.wait()
    assert runs.failed(1).absent == (str(runs.users[0].id),)
    assert not runs.established()


def equivocating(kind: str):
    def tamper(index: int, message: ControlMessage) -> list[ControlMessage]:
        if index != 1 or message.WhichOneof("body") != kind:
            return [message]
        other = ControlMessage()
        other.CopyFrom(message)
        if kind == "run_round":
            other.run_round.payload = other.run_round.payload[::-1]
        else:
            said = Participation.FromString(message.run_confirmation.participation.statement)
            said.confirmation = bytes(32)
            other.run_confirmation.participation.CopyFrom(sign_participation(WORLD.user("bob"), said))
        return [message, other]

    return tamper


@pytest.mark.parametrize("kind", ["run_round", "run_confirmation"])
def test_who_says_two_things_where_one_is_said_is_accused(kind: str):
    runs = played(tamper=equivocating(kind))
    bob = str(runs.users[1].id)
    accusations = [one.message.accusation for one in runs.said if one.message.HasField("accusation")]
    assert accusations
    assert all((one.cheater, one.kind) == (bob, "equivocation") for one in accusations)
    if kind == "run_round":
        assert runs.failed(0).cheaters == {bob: "equivocation"}
        assert not runs.established()


@pytest.mark.parametrize(("offset", "kind"), [(0, "invalid-element"), (40, "wrong-proof")])
def test_a_wrong_element_or_proof_ends_in_an_accusation(offset: int, kind: str):
    def tamper(index: int, message: ControlMessage) -> list[ControlMessage]:
        said = message.run_round
        if index == 2 and said.round == 2:
            payload = bytearray(said.payload)
            payload[offset] ^= 1
            if offset == 0:
                payload[:32] = bytes([1]) + bytes(31)
            said.payload = bytes(payload)
        return [message]

    runs = played(tamper=tamper)
    carol = str(runs.users[2].id)
    assert runs.failed(0).cheaters == {carol: kind}
    assert runs.failed(1).cheaters == {carol: kind}
    assert not runs.established()


@pytest.mark.parametrize("ckgds", ALL)
def test_a_wrong_confirmation_is_found_by_opening_what_was_secret(ckgds: str):
    runs = played(ckgds, tamper=wrong_confirmation)
    openings = [one for one in runs.said if one.message.HasField("opening")]
    aborts = [one for one in runs.said if one.message.HasField("abort")]
    assert len(openings) == 3 and len(aborts) == 1
    assert runs.failed(0).cheaters == {str(runs.users[1].id): "wrong-confirmation"}
    assert not runs.established()


def test_after_the_secrets_were_opened_no_activate_makes_a_key():
    runs = played(deaf={0})  # all have confirmed, the Coordinator's words are still to come
    complete = played()
    activate = next(one for one in complete.said if one.message.HasField("activate"))
    abort = Abort(run=1, run_hash=runs.runs[0].run_hash, reason="to open", open=True)
    runs.deaf = set()
    aborted = runs.delivered(0, ControlMessage(abort=abort))
    for index in (1, 2):
        runs.hear(index, aborted)
        assert runs.failed(index)
        runs.hear(index, activate)
    assert not runs.established()


def test_an_abort_after_the_activate_takes_no_key_away():
    runs = played()
    abort = runs.delivered(0, ControlMessage(abort=Abort(run=1, run_hash=runs.runs[0].run_hash, open=True)))
    runs.hear(1, abort)
    assert len(runs.established()) == 3
    assert not [one for one in runs.said if one.message.HasField("opening")]


def test_when_the_coordinator_has_said_activate_nothing_makes_it_say_abort():
    """Its word is still on its way back to it when somebody confirms again, is accused, and the time is over."""
    runs, _ = half_way()
    again = next(one for one in runs.said if one.message.HasField("run_confirmation") and one.user.endswith("bob"))
    other = ControlMessage()
    other.CopyFrom(again.message)
    said = Participation.FromString(other.run_confirmation.participation.statement)
    said.confirmation = bytes(32)
    other.run_confirmation.participation.CopyFrom(sign_participation(WORLD.user("bob"), said))
    accusation = ControlMessage(accusation=Accusation(run=1, cheater=again.user, kind="equivocation"))
    runs.hear(0, runs.delivered(1, other))
    runs.hear(0, runs.delivered(2, accusation))
    runs.follow(0, runs.runs[0].due(NOW + 1_000))
    assert runs.runs[0].wake_at() is None
    assert not [one for one in runs.said if one.message.HasField("abort")]


def test_a_proven_accusation_makes_the_coordinator_abort_and_the_others_wait_for_it():
    runs = played(deaf={2})
    for cheater in (str(WORLD.user("mallory").id), str(runs.users[2].id)):
        accusation = runs.delivered(
            1, ControlMessage(accusation=Accusation(run=1, cheater=cheater, kind="wrong-proof"))
        )
        assert not runs.outcome
        runs.hear(1, accusation)
        runs.hear(0, accusation)
    assert runs.failed(0).cheaters == {str(runs.users[2].id): "wrong-proof"}
    assert 1 not in runs.outcome
    runs.play()
    assert "wrong-proof" in runs.failed(1).reason


def heard_differently(runs: Runs, to: int) -> None:
    """Carol's first word is delivered to one of them with another trace context: signed twice, the scheme the same."""
    for place, (index, heard) in enumerate(runs.queue):
        if index == to and heard.user.endswith("carol"):
            other = ControlMessage()
            other.CopyFrom(heard.message)
            other.traceparent = "00-other"
            runs.queue[place] = (index, runs.delivered(2, other))


@pytest.mark.parametrize("ckgds", ALL)
def test_who_was_told_something_else_is_not_taken_for_a_cheater(ckgds: str):
    runs = Runs(WORLD, ckgds, 3)
    runs.begin()
    heard_differently(runs, to=1)
    runs.play()
    assert not runs.established()
    assert runs.failed(0).reason == "the confirmations differ"
    assert not runs.failed(0).cheaters


def wrong_confirmation(index: int, message: ControlMessage) -> list[ControlMessage]:
    if index == 1 and message.HasField("run_confirmation"):
        said = Participation.FromString(message.run_confirmation.participation.statement)
        said.confirmation = bytes(32)
        message.run_confirmation.participation.CopyFrom(sign_participation(WORLD.user("bob"), said))
    return [message]


@pytest.mark.parametrize("ckgds", ALL)
def test_who_opens_something_else_is_the_cheater(ckgds: str):
    def tamper(index: int, message: ControlMessage) -> list[ControlMessage]:
        if index == 2 and message.HasField("opening"):
            message.opening.secrets = b"\x07" + bytes(31)
        return wrong_confirmation(index, message)

    runs = played(ckgds, tamper=tamper)
    assert runs.failed(0).cheaters == {str(runs.users[2].id): "wrong-opening"}


def test_who_opens_nothing_is_absent_and_is_waited_for_from_when_it_was_asked():
    runs = played(
        tamper=lambda index, message: (
            [] if index == 2 and message.HasField("opening") else wrong_confirmation(index, message)
        )
    )
    assert 0 not in runs.outcome
    assert runs.runs[0].wake_at() == NOW + OPEN_WITHIN
    runs.follow(0, runs.runs[0].due(NOW + OPEN_WITHIN - 0.1))
    assert 0 not in runs.outcome
    runs.follow(0, runs.runs[0].due(NOW + OPEN_WITHIN))
    assert runs.failed(0).absent == (str(runs.users[2].id),)
    assert runs.failed(0).cheaters == {str(runs.users[1].id): "wrong-confirmation"}


def test_a_scheme_whose_secrets_must_not_be_shown_aborts_without(monkeypatch: pytest.MonkeyPatch):
    class Closed(BurmesterDesmedt):
        name = "closed"
        promises = replace(BurmesterDesmedt.promises, openable=False)

    monkeypatch.setitem(schemes(), "closed", Closed())
    runs = played("closed", tamper=wrong_confirmation)
    assert runs.failed(0).reason == runs.failed(2).reason == "the confirmations differ"
    assert not [one for one in runs.said if one.message.HasField("opening")]
    asked = Runs(WORLD, "closed", 3)
    asked.hear(1, asked.delivered(0, ControlMessage(abort=Abort(run=1, run_hash=asked.runs[0].run_hash, open=True))))
    assert asked.failed(1) and not asked.said


def test_what_is_said_twice_or_opened_unasked_changes_nothing():
    def tamper(_index: int, message: ControlMessage) -> list[ControlMessage]:
        return [message] * 2 if message.HasField("run_round") or message.HasField("run_confirmation") else [message]

    runs = played(tamper=tamper)
    assert len(runs.established()) == 3 and not runs.rejected
    runs = played(deaf={2})
    runs.hear(0, runs.delivered(1, ControlMessage(opening=Opening(run=1, secrets=b"mine"))))
    assert not runs.outcome and not runs.rejected


def test_a_wrong_message_too_long_to_be_shown_ends_the_run_all_the_same():
    """The evidence would not fit into a message: it must not be tried to send it."""

    def tamper(index: int, message: ControlMessage) -> list[ControlMessage]:
        if index == 2 and message.run_round.round == 1:
            message.run_round.payload = bytes(60_000)
        return [message]

    runs = played(tamper=tamper)
    assert not [one for one in runs.said if one.message.HasField("accusation")]
    assert runs.failed(0).cheaters == {str(runs.users[2].id): "invalid-element"}
    assert runs.failed(1).cheaters == runs.failed(0).cheaters


# ---- what is rejected


@pytest.mark.parametrize("where", ["chain", "statement"])
def test_a_participation_too_long_for_the_activate_of_all_is_rejected(where: str):
    def tamper(index: int, message: ControlMessage) -> list[ControlMessage]:
        if index == 1 and message.HasField("run_confirmation"):
            signed = message.run_confirmation.participation
            if where == "chain":
                signed.certificate_chain.append(bytes(40_000))
            else:
                longer = signed.statement + b"\xfa\x3f\xc0\xb8\x02" + bytes(40_000)  # a field that nobody knows
                signed.CopyFrom(WORLD.user("bob").sign_statement("mcsa participation v1", longer))
        return [message]

    runs = played(tamper=tamper)
    assert (0, "malformed") in runs.rejected
    runs.wait()
    assert runs.failed(0).absent == (str(runs.users[1].id),)


def test_an_activate_that_would_be_too_long_aborts_the_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mcsa.ckgds.run.BODY_MAX", 1_000)
    runs = played()
    assert "don't fit into one message" in runs.failed(0).reason
    assert not runs.established()


def test_an_activate_before_our_own_confirmation_is_rejected():
    _, activate = half_way()
    runs = played(deaf={2})
    assert outcome_of(runs, activate) == "activate"


def test_an_abort_by_somebody_else_is_rejected():
    runs = played(deaf={2})
    runs.hear(1, runs.delivered(2, ControlMessage(abort=Abort(run=1, run_hash=runs.runs[0].run_hash))))
    assert runs.rejected == [(1, "not-coordinator")] and not runs.outcome


def test_a_message_of_a_run_of_the_same_number_but_another_start_is_rejected():
    runs = played(deaf={2})
    said = RunRound(run=1, run_hash=bytes(32), round=1, payload=b"x" * 32)
    runs.hear(1, runs.delivered(2, ControlMessage(run_round=said)))
    assert runs.rejected == [(1, "wrong-run")]


def test_a_roster_with_the_fingerprint_of_no_certificate_is_found_in_the_participation():
    junk = b"no certificate"
    member = Participant(user=str(WORLD.user("bob").id), certificate_fingerprint=hashlib.sha256(junk).digest())
    for chain in ([junk], [WORLD.user("bob").chain[0]], []):
        with pytest.raises(Rejected) as caught:
            verify_participation(SignedStatement(certificate_chain=chain), member, CONFERENCE, 1, bytes(32))
        assert caught.value.cause == "certificate"
    leaf = WORLD.user("bob").chain[0]
    member = Participant(user=str(WORLD.user("carol").id), certificate_fingerprint=hashlib.sha256(leaf).digest())
    with pytest.raises(Rejected) as caught:
        verify_participation(SignedStatement(certificate_chain=[leaf]), member, CONFERENCE, 1, bytes(32))
    assert caught.value.cause == "certificate"


def test_a_participation_for_another_epoch_or_conference_or_user_is_rejected():
    bob = WORLD.user("bob")
    member = Participant(user=str(bob.id), certificate_fingerprint=bob.identity.fingerprint)
    said = Participation(conference_id=CONFERENCE, key_epoch=1, run_hash=bytes(32))
    signed = sign_participation(bob, said)
    assert verify_participation(signed, member, CONFERENCE, 1, bytes(32)).user == str(bob.id)
    said.user = str(WORLD.user("carol").id)
    other = bob.sign_statement("mcsa participation v1", said.SerializeToString())
    for wrong in (
        (signed, member, b"d" * 16, 1, bytes(32)),
        (signed, member, CONFERENCE, 2, bytes(32)),
        (signed, member, CONFERENCE, 1, bytes(31) + b"x"),
        (other, member, CONFERENCE, 1, bytes(32)),
    ):
        with pytest.raises(Rejected) as caught:
            verify_participation(*wrong)
        assert caught.value.cause == "wrong-run"


def test_a_run_of_a_scheme_that_is_not_there_is_refused():
    with pytest.raises(Refused) as caught:
        Runs(WORLD, "rot13", 3)
    assert caught.value.code == "unknown-ckgds"


def half_way(size: int = 3) -> tuple[Runs, Activate]:
    """All have confirmed; the Coordinator's activate is in our hands instead of on the wire."""
    kept: list[Activate] = []

    def tamper(_index: int, message: ControlMessage) -> list[ControlMessage]:
        if not message.HasField("activate"):
            return [message]
        kept.append(message.activate)
        return []

    return played(size=size, tamper=tamper), kept[0]


def outcome_of(runs: Runs, activate: Activate, by: int = 0) -> str:
    runs.rejected.clear()
    runs.hear(1, runs.delivered(by, ControlMessage(activate=activate)))
    return runs.rejected[-1][1] if runs.rejected else "accepted"


def test_the_coordinators_own_activate_is_accepted():
    runs, activate = half_way()
    assert outcome_of(runs, activate) == "accepted"
    assert len(runs.established()) == 2  # the Coordinator, who said it, and bob


def test_an_activate_by_somebody_else_is_rejected():
    runs, activate = half_way()
    assert outcome_of(runs, activate, by=2) == "not-coordinator"


def test_an_activate_without_everybodys_participation_is_rejected():
    runs, activate = half_way()
    del activate.participations[2]
    assert outcome_of(runs, activate) == "activate"


def test_an_activate_with_participations_in_another_order_is_rejected():
    runs, activate = half_way()
    first, second = activate.participations[1], activate.participations[2]
    swapped = Activate(run=1, run_hash=activate.run_hash, participations=[activate.participations[0], second, first])
    assert outcome_of(runs, swapped) == "certificate"


def test_an_activate_with_a_forged_signature_is_rejected():
    runs, activate = half_way()
    activate.participations[2].signature = bytes(64)
    assert outcome_of(runs, activate) == "signature"


def test_an_activate_with_a_participation_of_another_run_is_rejected():
    runs, activate = half_way()
    other = played(run=2)
    theirs = next(one.message.activate for one in other.said if one.message.HasField("activate"))
    activate.participations[2].CopyFrom(theirs.participations[2])
    assert outcome_of(runs, activate) == "wrong-run"


def test_an_activate_with_a_confirmation_of_another_key_is_rejected():
    runs, activate = half_way()
    said = Participation.FromString(activate.participations[2].statement)
    said.confirmation = bytes(32)
    activate.participations[2].CopyFrom(sign_participation(WORLD.user("carol"), said))
    assert outcome_of(runs, activate) == "activate"


def test_an_activate_with_something_malformed_is_rejected():
    runs, activate = half_way()
    del activate.participations[2].certificate_chain[:]
    assert outcome_of(runs, activate) == "certificate"
    runs, activate = half_way()
    activate.participations[2].CopyFrom(WORLD.user("carol").sign_statement("mcsa participation v1", b"\xff"))
    assert outcome_of(runs, activate) == "malformed"


def test_messages_of_an_earlier_run_are_rejected():
    earlier, runs = played(run=1), played(run=2, deaf={2})
    replayed = next(one for one in earlier.said if one.message.HasField("run_round") and one.user.endswith("carol"))
    runs.hear(1, replayed)
    assert runs.rejected == [(1, "wrong-run")]


def test_another_process_of_the_same_user_is_not_in_the_roster():
    runs = played(deaf={2})
    said = RunRound(run=1, run_hash=runs.runs[0].run_hash, round=1, payload=b"x" * 32)
    runs.hear(1, runs.delivered(2, ControlMessage(run_round=said), process_id=b"z" * 16))
    runs.hear(1, runs.delivered(2, ControlMessage(run_round=said), user=WORLD.user("mallory")))
    assert runs.rejected == [(1, "not-in-roster"), (1, "not-in-roster")]


def test_who_is_not_to_speak_in_a_round_or_speaks_in_none_is_rejected():
    runs = played("central", deaf={2})
    for number in (2, 3):
        said = RunRound(run=1, run_hash=runs.runs[0].run_hash, round=number, payload=b"x" * 32)
        runs.hear(1, runs.delivered(2, ControlMessage(run_round=said)))
    assert [cause for _, cause in runs.rejected] == ["not-a-speaker", "wrong-round"]


def test_a_run_start_that_is_not_sound_begins_no_run():
    runs = Runs(WORLD, "bd", 3)
    for change in (
        lambda start: start.roster.append(start.roster[1]),
        lambda start: start.roster.sort(key=lambda member: member.user, reverse=True),
        lambda start: start.roster.pop(1),
    ):
        message = ControlMessage()
        message.CopyFrom(runs.start.message)
        change(message.run_start)
        with pytest.raises(Rejected) as caught:
            runs.key_run(1, runs.delivered(0, message))
        assert caught.value.cause in ("roster", "not-in-roster")


def test_the_wrong_ciphertext_of_a_trusted_party_gives_no_key():
    def tamper(index: int, message: ControlMessage) -> list[ControlMessage]:
        if index == 0 and message.HasField("run_round"):
            payload = bytearray(message.run_round.payload)
            payload[-1] ^= 1  # carol's part
            message.run_round.payload = bytes(payload)
        return [message]

    runs = played("central", tamper=tamper)
    assert "wrong-ciphertext" in runs.failed(2).reason
    runs.wait()
    assert not runs.established()


def test_a_stopped_run_says_and_makes_nothing_any_more():
    runs = played(deaf={2})
    runs.runs[1].stop()
    runs.deaf = set()
    said = len(runs.said)
    for heard in list(runs.said):
        runs.hear(1, heard)
    assert runs.runs[1].wake_at() is None
    assert len(runs.said) == said and 1 not in runs.outcome


def test_the_participation_binds_the_user_to_conference_epoch_and_run():
    runs = played()
    (bob,) = [one for one in runs.said if one.message.HasField("run_confirmation") and one.user.endswith("bob")]
    said = Participation.FromString(bob.message.run_confirmation.participation.statement)
    assert (said.conference_id, said.key_epoch, said.run_hash) == (CONFERENCE, 100, runs.runs[1].run_hash)
    assert said.time_ms == round(NOW * 1000)
    assert bob.process_id == process_of(1)
    assert isinstance(bob.message.run_confirmation, RunConfirmation)
