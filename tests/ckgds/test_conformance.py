"""What every key scheme must do: run over all plug-ins that are found, so that a new one is held to it by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mcsa.ckgds.group import IDENTITY, multiply_base
from mcsa.ckgds.interface import Party, Scheme, scheme_named, schemes
from mcsa.errors import Refused, Rejected
from tests.world import seeded

CONTEXT = b"a run"
ALL = sorted(schemes())
SIZES = (2, 3, 4, 5, 6, 7, 8)

Heard = dict[tuple[int, int], bytes]


def started(scheme: Scheme, size: int, seed: int = 1, context: bytes = CONTEXT) -> list[Party]:
    return [scheme.start(index, size, context, seeded(seed * 1000 + index)) for index in range(size)]


def played(
    scheme: Scheme,
    parties: list[Party],
    tamper: Callable[[int, int, bytes], bytes] = lambda _round, _index, payload: payload,
    context: bytes = CONTEXT,
) -> Heard:
    """All rounds, checked as the wrapper checks them; raises `Rejected` where a check does."""
    size = len(parties)
    heard: Heard = {}
    for number in range(1, scheme.rounds(size) + 1):
        speakers = sorted(scheme.speakers(number, size))
        for index in speakers:
            heard[number, index] = tamper(number, index, parties[index].speak(number))
        for index in speakers:
            scheme.check(number, index, size, context, heard)
        for index in speakers:
            for other, party in enumerate(parties):
                if other != index:
                    party.hear(number, index, heard[number, index])
    return heard


def rewritten(
    scheme: Scheme, parties: list[Party], wrong_round: int, sources: dict[int, int]
) -> tuple[Heard, set[int]]:
    """Rounds in one of which some say what others said (`sources`), and who is refused in the first where one is."""
    size = len(parties)
    heard: Heard = {}
    refused: set[int] = set()
    for number in range(1, scheme.rounds(size) + 1):
        speakers = sorted(scheme.speakers(number, size))
        spoken = {index: parties[index].speak(number) for index in speakers}
        for index in speakers:
            heard[number, index] = spoken[sources.get(index, index) if number == wrong_round else index]
        for index in speakers:
            try:
                scheme.check(number, index, size, CONTEXT, heard)
            except Rejected:
                refused.add(index)
            for other, party in enumerate(parties):
                if other != index:
                    party.hear(number, index, heard[number, index])
        if refused:
            break
    return heard, refused


def secrets(parties: list[Party]) -> list[bytes | None]:
    """What each holds; None where what was sent to it alone is not good."""
    held: list[bytes | None] = []
    for party in parties:
        try:
            held.append(party.secret())
        except Rejected:
            held.append(None)
    return held


def test_the_schemes_that_the_release_names_are_there():
    assert {"bd", "central"} <= set(ALL)


def test_an_unknown_scheme_is_refused_with_those_that_there_are():
    with pytest.raises(Refused) as caught:
        scheme_named("rot13")
    assert caught.value.code == "unknown-ckgds" and "bd" in caught.value.sentence


@pytest.mark.parametrize("size", [1, *SIZES, 50])
@pytest.mark.parametrize("name", ALL)
def test_all_parties_share_one_secret(name: str, size: int):
    parties = started(scheme_named(name), size)
    played(scheme_named(name), parties)
    held = secrets(parties)
    assert len(set(held)) == 1
    assert held[0] is not None and len(held[0]) >= 32


@pytest.mark.parametrize("name", ALL)
def test_two_runs_have_two_secrets(name: str):
    scheme = scheme_named(name)
    one, other = started(scheme, 3, seed=1), started(scheme, 3, seed=2)
    played(scheme, one)
    played(scheme, other)
    assert one[0].secret() != other[0].secret()


@pytest.mark.parametrize("name", ALL)
def test_who_contributes_is_what_the_scheme_promises(name: str):
    """Other randomness of one party makes another secret: of any party, or of the Coordinator alone."""
    scheme = scheme_named(name)
    usual = started(scheme, 3)
    played(scheme, usual)
    for index in range(3):
        parties = started(scheme, 3)
        parties[index] = scheme.start(index, 3, CONTEXT, seeded(77))
        played(scheme, parties)
        changes = parties[0].secret() != usual[0].secret()
        assert changes == (scheme.promises.contributory or index == 0)


@pytest.mark.parametrize("name", ALL)
def test_a_listener_does_not_find_the_secret_among_what_was_said(name: str):
    parties = started(scheme_named(name), 4)
    heard = played(scheme_named(name), parties)
    secret = parties[0].secret()
    assert all(secret not in payload for payload in heard.values())


TAMPERINGS: dict[str, Callable[[bytes], bytes]] = {
    "first bit": lambda payload: bytes([payload[0] ^ 1]) + payload[1:],
    "last bit": lambda payload: payload[:-1] + bytes([payload[-1] ^ 1]),
    "truncated": lambda payload: payload[:-1],
    "longer": lambda payload: payload + b"\0",
    "empty": lambda _payload: b"",
    "identity": lambda payload: IDENTITY + payload[32:],
    "zeros": lambda payload: bytes(len(payload)),
    "another element": lambda payload: multiply_base(4_711) + payload[32:],
}


@pytest.mark.parametrize("tampering", sorted(TAMPERINGS))
@pytest.mark.parametrize(("cheater", "size"), [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (4, 5)])
@pytest.mark.parametrize("name", ALL)
def test_a_wrong_message_is_rejected_or_found_and_never_gives_the_honest_a_shared_wrong_key(
    name: str, cheater: int, size: int, tampering: str
):
    scheme = scheme_named(name)
    rounds = [number for number in range(1, scheme.rounds(size) + 1) if cheater in scheme.speakers(number, size)]
    for wrong_round in rounds:
        honest = played(scheme, started(scheme, size))
        parties = started(scheme, size)

        def tamper(number: int, index: int, payload: bytes, wrong: int = wrong_round) -> bytes:
            return TAMPERINGS[tampering](payload) if (number, index) == (wrong, cheater) else payload

        try:
            heard = played(scheme, parties, tamper)
        except Rejected:
            continue  # seen by everybody, at once
        if heard == honest:  # with two in the ring, the identity is what is to be said
            continue
        held = secrets(parties)
        assert None in held or len(set(held)) > 1  # confirmations will differ
        opened = {index: party.reveal() for index, party in enumerate(parties)}
        assert set(scheme.judge(size, CONTEXT, heard, opened)) == {cheater}


@pytest.mark.parametrize("name", ALL)
def test_who_says_what_another_said_is_found_and_the_other_is_not(name: str):
    """Whichever of the two has the lower place: it may have spoken last."""
    scheme = scheme_named(name)
    for copier, original in ((0, 1), (1, 2), (2, 1), (2, 0)):
        for wrong_round in range(1, scheme.rounds(3) + 1):
            if not {copier, original} <= set(scheme.speakers(wrong_round, 3)):
                continue
            parties = started(scheme, 3)
            heard, refused = rewritten(scheme, parties, wrong_round, {copier: original})
            if not refused:
                opened = {index: party.reveal() for index, party in enumerate(parties)}
                refused = set(scheme.judge(3, CONTEXT, heard, opened))
            assert refused == {copier}


@pytest.mark.parametrize("name", ALL)
def test_a_check_looks_at_the_rounds_before_only(name: str):
    """What others say in the same round must not make an honest message wrong: they may speak after it."""
    scheme = scheme_named(name)
    parties = started(scheme, 4)
    heard = played(scheme, parties)
    for number, index in heard:
        known = {place: payload for place, payload in heard.items() if place[0] < number or place == (number, index)}
        scheme.check(number, index, 4, CONTEXT, known)
        for other in scheme.speakers(number, 4):
            if other != index:
                scheme.check(number, index, 4, CONTEXT, {**heard, (number, other): heard[number, index]})


@pytest.mark.parametrize("name", ALL)
def test_two_parties_messages_swapped_give_no_shared_key(name: str):
    scheme = scheme_named(name)
    for wrong_round in range(1, scheme.rounds(4) + 1):
        if {1, 2} <= set(scheme.speakers(wrong_round, 4)):
            parties = started(scheme, 4)
            _, refused = rewritten(scheme, parties, wrong_round, {1: 2, 2: 1})
            assert refused or None in secrets(parties) or len(set(secrets(parties))) > 1


@pytest.mark.parametrize("name", ALL)
def test_nobody_honest_is_judged_a_cheater(name: str):
    scheme = scheme_named(name)
    parties = started(scheme, 4)
    heard = played(scheme, parties)
    opened = {index: party.reveal() for index, party in enumerate(parties)}
    assert scheme.judge(4, CONTEXT, heard, opened) == {}


@pytest.mark.parametrize("name", ALL)
def test_a_secret_that_is_none_counts_against_who_opens_it(name: str):
    scheme = scheme_named(name)
    parties = started(scheme, 3)
    heard = played(scheme, parties)
    opened = {index: party.reveal() for index, party in enumerate(parties)}
    opened[2] = b"\x07" + bytes(31)
    assert set(scheme.judge(3, CONTEXT, heard, opened)) == {2}


@pytest.mark.parametrize("name", ALL)
def test_a_secret_that_is_malformed_or_of_a_silent_one_names_nobody_else(name: str):
    scheme = scheme_named(name)
    parties = started(scheme, 3)
    heard = played(scheme, parties)
    for wrong in (b"", b"short", b"\xff" * 32):
        assert set(scheme.judge(3, CONTEXT, heard, {2: wrong})) == {2}
    assert scheme.judge(3, CONTEXT, heard, {}) == {}
    assert scheme.judge(3, CONTEXT, heard, {1: parties[1].reveal()}) == {}


@pytest.mark.parametrize("size", [2, 3])
def test_a_coordinator_that_keeps_another_key_than_it_sealed_is_judged(size: int):
    scheme = scheme_named("central")
    parties = started(scheme, size)
    heard = played(scheme, parties)
    opened = {index: party.reveal() for index, party in enumerate(parties)}
    assert scheme.judge(size, CONTEXT, heard, opened | {0: bytes(32)}) == {0: "wrong-opening"}


def test_a_coordinator_that_seals_different_keys_is_judged():
    scheme = scheme_named("central")
    parties = started(scheme, 3)
    heard = played(scheme, parties)
    other = scheme.start(0, 3, CONTEXT, seeded(99))
    for index in (1, 2):
        other.hear(1, index, heard[1, index])
    half = len(heard[2, 0]) // 2
    heard[2, 0] = heard[2, 0][:half] + other.speak(2)[half:]
    scheme.check(2, 0, 3, CONTEXT, heard)  # nobody alone sees it
    opened = {index: party.reveal() for index, party in enumerate(parties)}
    assert scheme.judge(3, CONTEXT, heard, opened) == {0: "wrong-ciphertext"}


def test_neighbours_that_cancel_each_other_leave_the_one_between_honest():
    """Bob and Dave of four say the same element: Carol's difference is the identity, and her proof still good."""
    scheme = scheme_named("bd")
    parties = started(scheme, 4)
    parties[3] = scheme.start(3, 4, CONTEXT, seeded(1001))  # Bob's randomness
    played(scheme, parties)
    assert len(set(secrets(parties))) == 1


@pytest.mark.parametrize("name", ALL)
def test_messages_of_one_run_are_worth_nothing_in_another(name: str):
    scheme = scheme_named(name)
    parties = started(scheme, 3, context=b"another run")
    try:
        played(scheme, parties, context=CONTEXT)
    except Rejected:
        return
    assert name == "central"  # no proofs: its sealings are bound to the run instead
    recipient = scheme.start(1, 3, CONTEXT, seeded(1001))
    recipient.speak(1)
    recipient.hear(2, 0, parties[0].speak(2))
    with pytest.raises(Rejected) as caught:
        recipient.secret()
    assert caught.value.cause == "wrong-ciphertext"


@pytest.mark.parametrize("name", ALL)
def test_what_a_scheme_says_of_itself_is_there_to_read(name: str):
    scheme = scheme_named(name)
    assert scheme.title and scheme.promises.rounds and scheme.promises.cost
    for size in (1, *SIZES):
        for number in range(1, scheme.rounds(size) + 1):
            assert set(scheme.speakers(number, size)) <= set(range(size))
            assert scheme.speakers(number, size)
