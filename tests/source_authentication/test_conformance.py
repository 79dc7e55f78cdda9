"""Every mode of source authentication that is found keeps the same promises."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsa.control.fragments import DATAGRAM_MAX
from mcsa.errors import Refused
from mcsa.source_authentication import CAUSES, Mode, SourceKey, SourcePublicKey, mode_named, modes
from mcsa.source_authentication.tree import ROOM
from tests.source_authentication.parts import (
    START,
    Source,
    changed,
    hear,
    policy_of,
    proved,
    setting_of,
    with_payload,
)

ALL = pytest.mark.parametrize("mode", modes().values(), ids=modes().keys())
AUTHENTIC = [mode for mode in modes().values() if mode.promises.authenticates]
AUTHENTICATING = pytest.mark.parametrize("mode", AUTHENTIC, ids=[mode.name for mode in AUTHENTIC])
WORDS = [f"word {number}".encode() * (number % 7) for number in range(150)]


def test_the_modes_are_found_and_another_one_is_refused():
    assert set(modes()) == {"none", "signature", "tree", "tesla"}
    with pytest.raises(Refused, match="there are: none, signature, tesla, tree"):
        mode_named("shouting")


@ALL
def test_it_says_what_it_is(mode: Mode):
    assert mode.name and mode.title and mode.promises.delay
    assert mode_named(mode.name) is mode
    assert mode.promises.authenticates or not mode.promises.explicit_signatures


@ALL
def test_what_is_said_is_heard_once_and_in_order(mode: Mode):
    source = Source(mode, setting_of(mode))
    verdicts = hear(source.receiver(), source.speak(WORDS))
    assert proved(verdicts) == WORDS
    assert {verdict.cause for verdict in verdicts} <= {"", "source-undisclosed"}  # the last disclosures themselves


@ALL
def test_a_packet_is_no_longer_than_the_mode_says(mode: Mode):
    setting = setting_of(mode)
    source, sizes = Source(mode, setting), []
    for count in (1, 2, 3, 5, 33, 64, 100):
        words = [b"x" * 100] * count
        sizes += [len(claim.payload) for _, claim in source.speak(words, seconds=0.01)]
    assert max(sizes) == max(100 + mode.overhead(setting.policy), 114 if mode.name == "tesla" else 0)


@ALL
@pytest.mark.parametrize("seed", range(5))
def test_with_loss_reordering_and_copies_all_that_is_heard_was_said(mode: Mode, seed: int):
    chance = random.Random(seed)
    source = Source(mode, setting_of(mode))
    sent = [(at, claim) for at, claim in source.speak(WORDS) if chance.random() > 0.3]
    arriving = sorted((at + 0.05 * chance.random(), number) for number, (at, _) in enumerate(sent))
    verdicts = hear(source.receiver(), [(at, sent[number][1]) for at, number in arriving])
    heard = proved(verdicts)
    assert set(heard) <= set(WORDS)
    got_there = [claim for _, claim in sent]
    told = [verdict.claim for verdict in verdicts if not verdict.cause]
    own = [claim for claim in got_there if any(claim is other for other in told)]
    assert len(heard) > 0.6 * len(WORDS) and len(own) == len(told)
    assert not any(CAUSES.get(verdict.cause, False) for verdict in verdicts)


@AUTHENTICATING
def test_no_changed_byte_changes_what_is_believed(mode: Mode):
    """What is known of a proof already isn't looked at again: what is believed is what was said, all the same."""
    source = Source(mode, setting_of(mode))
    words = [b"attack at dawn", b"hold the line", b"wait"]
    sent = source.speak(words, seconds=0.03)
    for number, (at, claim) in enumerate(sent):
        raw = claim.payload
        noticed = 0
        for place in range(len(raw)):
            bits = bytearray(raw)
            bits[place] ^= 1 << place % 8
            forged = with_payload(claim, bytes(bits))
            verdicts = hear(source.receiver(), [*sent[:number], (at, forged), *sent[number + 1 :]])
            believed = [verdict.payload for verdict in verdicts if verdict.claim is forged and not verdict.cause]
            assert set(believed) <= {next((word for word in words if raw.endswith(word)), None)}, (number, place)
            noticed += not believed
        assert noticed >= 25  # signature, or interval and MAC


@AUTHENTICATING
@pytest.mark.parametrize(
    "fields", [{"sequence": 99}, {"epoch": 5}, {"sender_id": 8}, {"source_port": 1}, {"destination_port": 848}]
)
def test_a_claim_of_another_origin_or_header_is_not_believed(mode: Mode, fields: dict[str, int]):
    source = Source(mode, setting_of(mode))
    sent = source.speak(WORDS[1:20])
    forged = [(at, changed(claim, **fields)) for at, claim in sent]
    assert proved(hear(source.receiver(), forged)) == []
    assert not [verdict for verdict in hear(source.receiver(), forged) if not verdict.cause]


@AUTHENTICATING
def test_another_group_domain_or_key_proves_nothing(mode: Mode):
    source = Source(mode, setting_of(mode))
    sent = source.speak(WORDS[1:20])
    here = source.setting
    other_group = type(here)(here.domain, bytes(16), here.policy, here.clock)
    other_domain = type(here)("example.net", here.group_id, here.policy, here.clock)
    for setting in (other_group, other_domain):
        assert proved(hear(source.receiver(setting), sent)) == []
    stranger = mode.receiver(here, source.sender_id, SourcePublicKey(SourceKey().public))
    assert proved(hear(stranger, sent)) == []


@AUTHENTICATING
def test_an_insider_is_not_believed_among_honest_packets_and_harms_none(mode: Mode):
    """Whoever has the group key, and a source key of his own, but not the other's."""
    honest, insider = Source(mode, setting_of(mode)), Source(mode, setting_of(mode))
    sent, forged = honest.speak(WORDS[1:40]), insider.speak([b"forged"] * 39)
    both = sorted([*sent, *forged], key=lambda each: each[0])
    verdicts = hear(honest.receiver(), both)
    assert proved(verdicts) == WORDS[1:40]
    assert any(CAUSES.get(verdict.cause, False) for verdict in verdicts)


def test_without_source_authentication_the_insider_is_believed():
    """So the test before can fail."""
    mode = mode_named("none")
    insider = Source(mode, setting_of(mode))
    assert b"forged" in proved(hear(insider.receiver(), insider.speak([b"forged"])))


@ALL
@settings(max_examples=60, deadline=None)
@given(raw=st.binary(max_size=300))
def test_garbage_is_told_and_nothing_else(mode: Mode, raw: bytes):
    source = Source(mode, setting_of(mode))
    receiver = source.receiver()
    claim = source.speak([b"x"])[0][1]
    verdicts = receiver.receive(with_payload(claim, raw), START)
    assert all(verdict.cause in CAUSES or mode.name == "none" for verdict in verdicts)


@ALL
def test_a_claim_is_decided_once(mode: Mode):
    source = Source(mode, setting_of(mode))
    verdicts = hear(source.receiver(), source.speak(WORDS[1:50]))
    assert len({id(verdict.claim) for verdict in verdicts}) == len(verdicts)


@ALL
def test_a_control_message_fits_into_a_packet_with_its_proof(mode: Mode):
    source = Source(mode, setting_of(mode))
    claims = source.say([bytes(DATAGRAM_MAX)] * 70, START) + source.woken(START + 1)
    assert max(len(claim.payload) for claim in claims) <= ROOM


@ALL
def test_its_policy_passes_its_own_check(mode: Mode):
    mode.check(policy_of(mode))
