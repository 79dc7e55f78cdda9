"""Accusations: what convinces anybody, and what must not, so that nobody honest is framed."""

from __future__ import annotations

import pytest

from mcsa.ckgds.evidence import EVIDENCE_MAX, verify_accusation
from mcsa.ckgds.group import multiply_base
from mcsa.control.fragments import sign_fragment
from mcsa.errors import Rejected
from mcsa.v1.conference_pb2 import Accusation, ControlMessage
from tests.ckgds.parts import CONFERENCE, Runs, process_of
from tests.ckgds.test_run import WORLD, equivocating, played


def wrong_proof(index: int, message: ControlMessage) -> list[ControlMessage]:
    if index == 2 and message.run_round.round == 2:
        message.run_round.payload = message.run_round.payload[:-1] + bytes([message.run_round.payload[-1] ^ 1])
    return [message]


def accusation_of(runs: Runs) -> Accusation:
    return next(one.message.accusation for one in runs.said if one.message.HasField("accusation"))


def verdict(accusation: Accusation, runs: Runs, conference_id: bytes = CONFERENCE) -> str:
    try:
        verify_accusation(accusation, conference_id, runs.start, runs.certificates)
    except Rejected as rejected:
        assert rejected.cause == "evidence"
        return rejected.detail
    return "convinced"


@pytest.mark.parametrize("kind", ["run_round", "run_confirmation"])
def test_two_messages_of_one_place_convince(kind: str):
    runs = played(tamper=equivocating(kind))
    assert verdict(accusation_of(runs), runs) == "convinced"


def test_a_message_that_the_scheme_refuses_convinces():
    runs = played(tamper=wrong_proof)
    assert accusation_of(runs).kind == "wrong-proof"
    assert verdict(accusation_of(runs), runs) == "convinced"


def test_two_fragments_of_one_place_convince():
    runs = played()
    carol = runs.users[2]
    evidence = [sign_fragment(carol, CONFERENCE, process_of(2), 9, 0, 1, body) for body in (b"one", b"two")]
    accusation = Accusation(run=1, cheater=str(carol.id), kind="equivocation", evidence=evidence)
    assert verdict(accusation, runs) == "convinced"
    verify_accusation(accusation, CONFERENCE, None, runs.certificates)  # needs no run


def test_activate_and_abort_of_one_run_convince():
    runs = played()
    activate = next(one for one in runs.said if one.message.HasField("activate"))
    both = ControlMessage()
    both.abort.run, both.abort.run_hash = 1, runs.runs[0].run_hash
    abort = runs.delivered(0, both)
    accusation = Accusation(
        run=1,
        cheater=str(runs.users[0].id),
        kind="equivocation",
        evidence=[*activate.fragments, *abort.fragments],
    )
    assert verdict(accusation, runs) == "convinced"


# ---- nobody is framed


def test_the_same_message_twice_is_no_equivocation():
    runs = played()
    said = next(one for one in runs.said if one.message.HasField("run_round") and one.user.endswith("bob"))
    accusation = Accusation(run=1, cheater=said.user, kind="equivocation", evidence=[*said.fragments, *said.fragments])
    assert verdict(accusation, runs) != "convinced"


def test_messages_of_two_rounds_or_runs_are_no_equivocation():
    runs, other = played(run=1), played(run=2)
    bob = str(runs.users[1].id)
    rounds = [one for one in runs.said if one.message.HasField("run_round") and one.user == bob]
    later = [one for one in other.said if one.message.HasField("run_round") and one.user == bob]
    later[0].fragments[0].sequence = 77  # so that it isn't of one place of the stream
    for pair in ((rounds[0], rounds[1]), (rounds[0], later[1])):
        evidence = [fragment for one in pair for fragment in one.fragments]
        assert verdict(Accusation(run=1, cheater=bob, kind="equivocation", evidence=evidence), runs) != "convinced"


def test_what_the_accused_has_not_signed_proves_nothing():
    runs = played(tamper=equivocating("run_round"))
    accusation = accusation_of(runs)
    accusation.evidence[1].signature = bytes(64)
    assert verdict(accusation, runs).startswith("not signed")


def test_what_one_signed_does_not_accuse_another():
    runs = played(tamper=equivocating("run_round"))
    accusation = accusation_of(runs)
    accusation.cheater = str(runs.users[2].id)
    assert verdict(accusation, runs) != "convinced"


def test_evidence_of_another_conference_proves_nothing():
    runs = played(tamper=equivocating("run_round"))
    assert verdict(accusation_of(runs), runs, b"d" * 16) == "of another conference"


def test_evidence_of_another_run_proves_nothing():
    runs, other = played(tamper=wrong_proof), played(run=2)
    assert verdict(accusation_of(runs), other) == "of another run"


def test_a_good_message_accused_is_found_good():
    runs = played(tamper=wrong_proof)
    accusation = accusation_of(runs)
    accusation.cheater = str(runs.users[1].id)
    assert verdict(accusation, runs) == "the message is good"


def test_evidence_that_lacks_what_the_check_looks_at_proves_nothing():
    runs = played(tamper=wrong_proof)
    accusation = accusation_of(runs)
    kept = [f for f in accusation.evidence if ControlMessage.FromString(f.body).run_round.round == 2]
    accusation = Accusation(run=1, cheater=accusation.cheater, kind=accusation.kind, evidence=kept)
    assert verdict(accusation, runs) == "a message that the check looks at is missing"


def test_a_wrong_message_of_another_does_not_make_the_honest_one_guilty():
    """Alice's first word is wrong; bob's second can't be right over it."""

    def tamper(index: int, message: ControlMessage) -> list[ControlMessage]:
        if index == 0 and message.run_round.round == 1:
            message.run_round.payload = bytes([1]) + bytes(31)
        return [message]

    honest, cheated = played(), played(tamper=tamper)
    first = [one for one in cheated.said if one.message.run_round.round == 1]
    second = next(one for one in honest.said if one.message.run_round.round == 2 and one.user.endswith("bob"))
    message = ControlMessage()
    message.CopyFrom(second.message)
    message.run_round.run_hash = cheated.runs[0].run_hash
    retold = cheated.delivered(1, message)
    evidence = [fragment for one in (*first, retold) for fragment in one.fragments]
    accusation = Accusation(run=1, cheater=str(cheated.users[1].id), kind="wrong-proof", evidence=evidence)
    assert verdict(accusation, cheated) == "the message is good"


def test_half_a_message_proves_nothing():
    runs = played()
    carol = runs.users[2]
    half = sign_fragment(carol, CONFERENCE, process_of(2), 9, 0, 2, b"half")
    accusation = Accusation(run=1, cheater=str(carol.id), kind="wrong-proof", evidence=[half])
    assert verdict(accusation, runs) == "a message that is not whole"
    garbage = sign_fragment(carol, CONFERENCE, process_of(2), 9, 0, 1, b"\xff")
    accusation = Accusation(run=1, cheater=str(carol.id), kind="wrong-proof", evidence=[garbage])
    assert verdict(accusation, runs) == "malformed"


def test_status_has_no_place_and_is_no_equivocation():
    runs = played()
    carol = runs.users[2]
    evidence = [sign_fragment(carol, CONFERENCE, process_of(2), 0, 0, 1, body) for body in (b"\x0a\x00", b"")]
    accusation = Accusation(run=1, cheater=str(carol.id), kind="equivocation", evidence=evidence)
    assert verdict(accusation, runs) != "convinced"


def test_an_accusation_without_evidence_or_with_too_much_or_of_an_unknown_kind_proves_nothing():
    runs = played(tamper=equivocating("run_round"))
    accusation = accusation_of(runs)
    assert verdict(Accusation(run=1, cheater=accusation.cheater, kind="equivocation"), runs) == "size"
    many = [accusation.evidence[0]] * (EVIDENCE_MAX + 1)
    assert verdict(Accusation(run=1, cheater=accusation.cheater, kind="equivocation", evidence=many), runs) == "size"
    accusation.kind = "impoliteness"
    assert "impoliteness" in verdict(accusation, runs)
    stranger = sign_fragment(WORLD.user("mallory"), CONFERENCE, b"m" * 16, 9, 0, 1, b"one")
    accusation = Accusation(run=1, cheater=accusation.cheater, kind="equivocation", evidence=[stranger])
    assert verdict(accusation, runs) == "of somebody unknown"


# ---- what would cost whoever verifies it


def signed_round(runs: Runs, index: int, number: int, payload: bytes) -> Accusation:
    """A participant's own round message, as evidence against itself."""
    message = ControlMessage()
    message.run_round.run, message.run_round.run_hash = 1, runs.runs[0].run_hash
    message.run_round.round, message.run_round.payload = number, payload
    said = runs.delivered(index, message)
    return Accusation(run=1, cheater=said.user, kind="wrong-proof", evidence=said.fragments)


@pytest.mark.parametrize("number", [0, 3, 2**32 - 1])
@pytest.mark.parametrize("size", [0, 128])
def test_a_round_that_there_is_not_proves_nothing(number: int, size: int):
    runs = played()
    expected = "of a round in which the accused has nothing to say"
    assert verdict(signed_round(runs, 2, number, bytes(size)), runs) == expected


def test_a_round_in_which_the_accused_is_not_a_speaker_proves_nothing():
    runs = played("central")
    expected = "of a round in which the accused has nothing to say"
    assert verdict(signed_round(runs, 2, 2, b"x"), runs) == expected


def test_a_message_of_four_thousand_million_fragments_is_not_counted():
    runs = played()
    carol = runs.users[2]
    huge = sign_fragment(carol, CONFERENCE, process_of(2), 9, 0, 2**32 - 1, b"one")
    for kind in ("equivocation", "wrong-proof"):
        accusation = Accusation(run=1, cheater=str(carol.id), kind=kind, evidence=[huge])
        assert verdict(accusation, runs) == "not signed: place"


def test_a_confirmation_that_is_none_proves_nothing():
    runs = played()
    carol = runs.users[2]
    message = ControlMessage()
    message.run_confirmation.run = 1
    message.run_confirmation.participation.statement = b"\xff"
    body = message.SerializeToString()
    evidence = [sign_fragment(carol, CONFERENCE, process_of(2), place, 0, 1, body) for place in (8, 9)]
    accusation = Accusation(run=1, cheater=str(carol.id), kind="equivocation", evidence=evidence)
    assert verdict(accusation, runs) == "malformed"


# ---- other evidence that proves nothing


def test_a_run_that_was_not_heard_or_whose_scheme_is_not_known_proves_nothing():
    runs = played(tamper=wrong_proof)
    accusation = accusation_of(runs)
    with pytest.raises(Rejected, match="not heard"):
        verify_accusation(accusation, CONFERENCE, None, runs.certificates)
    runs.start.message.run_start.ckgds = "rot13"
    assert verdict(accusation, runs) == "of an unknown scheme"


def test_somebody_who_was_not_there_cannot_be_accused_of_a_wrong_message():
    runs = played(tamper=wrong_proof)
    accusation = accusation_of(runs)
    accusation.cheater = str(WORLD.user("mallory").id)
    assert verdict(accusation, runs) == "against somebody who was not there"


def test_two_messages_of_one_place_do_not_show_whose_answer_is_wrong():
    """Alice says two elements; what Bob answered to one is wrong over the other."""
    runs = played()
    rounds = [one for one in runs.said if one.message.HasField("run_round")]
    other = ControlMessage()
    other.CopyFrom(next(one.message for one in rounds if one.user.endswith("alice")))
    other.run_round.payload = next(one.message.run_round.payload for one in rounds if one.user.endswith("carol"))
    evidence = [fragment for one in (*rounds, runs.delivered(0, other)) for fragment in one.fragments]
    accusation = Accusation(run=1, cheater=str(runs.users[1].id), kind="wrong-proof", evidence=evidence)
    assert verdict(accusation, runs).startswith("two of one place")


def test_an_echo_does_not_frame_whom_it_echoes():
    """Alice waits for Carol's first word and says the same: Carol's is good."""
    kept: list[bytes] = []

    def tamper(index: int, message: ControlMessage) -> list[ControlMessage]:
        if index == 2 and message.run_round.round == 1:
            kept.append(message.run_round.payload)
        return [message]

    honest = played(tamper=tamper)

    def echo(index: int, message: ControlMessage) -> list[ControlMessage]:
        if index == 0 and message.run_round.round == 1:
            message.run_round.payload = kept[0]
        return [message]

    runs = played(tamper=echo)
    assert len(honest.established()) == 3 and not runs.established()
    assert runs.failed(1).cheaters == {str(runs.users[0].id): "wrong-proof"}
    assert verdict(accusation_of(runs), runs) == "convinced"
    first = [f for one in runs.said if one.message.run_round.round == 1 for f in one.fragments]
    accusation = Accusation(run=1, cheater=str(runs.users[2].id), kind="invalid-element", evidence=first)
    assert verdict(accusation, runs) == "the message is good"


def test_an_element_signed_afterwards_does_not_make_an_honest_answer_wrong():
    """All was well; then Carol signs another first word, and shows it with Bob's answer to the one she really said."""
    runs = played()
    rounds = [one for one in runs.said if one.message.HasField("run_round")]
    first = {one.user: one for one in rounds if one.message.run_round.round == 1}
    bob, carol = str(runs.users[1].id), str(runs.users[2].id)
    other = ControlMessage()
    other.CopyFrom(first[carol].message)
    other.run_round.payload = multiply_base(4_711)
    first[carol] = runs.delivered(2, other)
    answer = next(one for one in rounds if one.message.run_round.round == 2 and one.user == bob)
    evidence = [fragment for one in (*first.values(), answer) for fragment in one.fragments]
    accusation = Accusation(run=1, cheater=bob, kind="wrong-proof", evidence=evidence)
    assert verdict(accusation, runs) != "convinced"
