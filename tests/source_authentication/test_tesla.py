"""TESLA: safe-packet test, key test and its bound, late joiners, chains, what is kept."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from mcsa.errors import Refused, Rejected
from mcsa.source_authentication import Claim, Clock, ClockBound, mode_named
from mcsa.source_authentication.interface import Buffer, Setting
from mcsa.source_authentication.key_chain import LENGTH, DisclosedChain, KeyChain, before, mac_key
from mcsa.source_authentication.tesla_receiver import STEPS_A_SECOND
from mcsa.source_authentication.tesla_wire import BOOTSTRAP, CONTENT, DISCLOSURE, Bootstrap, Timed, parse
from tests.source_authentication.parts import (
    START,
    Source,
    changed,
    clock_of,
    hear,
    policy_of,
    proved,
    setting_of,
    with_payload,
)

TESLA = mode_named("tesla")
WORDS = [f"word {number}".encode() for number in range(100)]
Sent = list[tuple[float, Claim]]


def kind(claim: Claim) -> int:
    return claim.payload[0]


def timed(claim: Claim) -> Timed:
    packet = parse(claim.payload)
    assert isinstance(packet, Timed)
    return packet


def causes(source: Source, sent: Sent, delay: float = 0.002, setting: Setting | None = None) -> set[str]:
    return {verdict.cause for verdict in hear(source.receiver(setting), sent, delay)}


# ---- keys


def test_a_chain_is_hmac_all_the_way_down():
    chain = KeyChain(10, 5, random=bytes)
    key = bytes(32)
    for interval in range(14, 9, -1):
        assert chain.key_of(interval) == key
        key = hmac.new(key, b"\x00", hashlib.sha256).digest()
    assert chain.commitment == key
    assert mac_key(key) == hmac.new(key, b"\x01", hashlib.sha256).digest() != before(key)
    for interval in (9, 15):
        with pytest.raises(KeyError):
            chain.key_of(interval)
    assert key.hex() not in repr(chain)


def test_disclosed_keys_give_those_before_and_no_other_is_taken():
    chain = KeyChain(10, 20)
    known = DisclosedChain(10, 20, chain.commitment)
    assert known.steps_to(15) == 6
    assert known.disclose(15, bytes(32)) is None
    assert known.disclose(16, chain.key_of(15)) is None
    found = known.disclose(15, chain.key_of(15))
    assert found == {interval: chain.key_of(interval) for interval in range(10, 16)}
    assert known.disclose(14, bytes(32)) == {}  # nothing new, not even that it is wrong
    assert known.disclosed == 15
    assert known.disclose(16, chain.key_of(16)) == {16: chain.key_of(16)}


# ---- what is safe


@pytest.mark.parametrize(("delay", "heard"), [(0.0, True), (0.15, True), (0.35, False), (2.0, False)])
def test_what_comes_after_its_keys_time_is_not_believed(delay: float, heard: bool):
    source = Source(TESLA, setting_of(TESLA))
    sent = source.speak(WORDS)
    got = proved(hear(source.receiver(), sent, delay))
    assert (got == WORDS) == heard and (got == []) == (not heard)
    assert ("source-late" in causes(source, sent, delay)) == (not heard)


@pytest.mark.parametrize(("source_error", "receiver_error"), [(3600.0, -3600.0), (-3600.0, 3600.0), (0.0, 86_400.0)])
def test_own_clocks_may_be_wrong_by_any_time(source_error: float, receiver_error: float):
    source = Source(TESLA, setting_of(TESLA, clock_of(source_error)))
    claims = source.say(WORDS, START + source_error)
    claims += [claim for number in range(12) for claim in source.woken(START + source_error + 0.1 * number)]
    listener = source.receiver(setting_of(TESLA, clock_of(receiver_error)))
    at = [START + receiver_error + 0.002] * 101 + [START + receiver_error + 0.1 * number for number in range(12)]
    heard = [verdict for when, claim in zip(at, claims) for verdict in listener.receive(claim, when)]
    assert proved(heard) == WORDS


def test_doubt_about_the_clock_costs_packets_and_never_safety():
    source = Source(TESLA, setting_of(TESLA))
    sent = source.speak(WORDS)
    for doubt, least in ((0.05, 100), (0.6, 0)):
        heard = proved(hear(source.receiver(setting_of(TESLA, clock_of(0.0, doubt * 2))), sent))
        assert len(heard) == least


def test_without_a_clock_nothing_is_said_and_nothing_believed():
    deaf = setting_of(TESLA, Clock())
    assert Source(TESLA, deaf).sender.unready(START) == "clock"
    source = Source(TESLA, setting_of(TESLA))
    assert source.sender.unready(START) == ""
    assert causes(source, source.speak(WORDS), setting=deaf) == {"source-clock"}


def test_a_clock_that_was_set_back_is_none():
    source = Source(TESLA, setting_of(TESLA))
    assert source.sender.unready(START - 1.0) == "clock"
    assert causes(source, source.speak(WORDS), delay=-10.0) == {"source-clock"}


def test_what_is_of_a_time_to_come_is_not_believed():
    source = Source(TESLA, setting_of(TESLA))
    late_clock = setting_of(TESLA, Clock(ClockBound.by(START, START, START - 5)))
    assert "source-future" in causes(source, source.speak(WORDS), delay=0.0, setting=late_clock)


def test_a_sources_intervals_never_go_back():
    setting = setting_of(TESLA)
    source = Source(TESLA, setting)
    first = timed(source.say([b"a"], START + 10)[-1]).interval
    setting.clock.bound = clock_of(-20.0).bound  # the Authorizer's clock was set back
    assert setting.clock.earliest(START + 11) is not None
    setting.clock.bound = clock_of(30.0).bound
    assert timed(source.say([b"b"], START + 31)[-1]).interval == first


# ---- keys that are disclosed


def test_a_wrong_key_is_a_forgery_and_changes_nothing():
    source = Source(TESLA, setting_of(TESLA))
    sent = source.speak(WORDS)
    receiver, verdicts, forged = source.receiver(), [], 0
    for at, claim in sent:
        verdicts += receiver.receive(claim, at)
        if kind(claim) != BOOTSTRAP and forged < 20:
            packet = timed(claim)._replace(disclosed=bytes([forged]) * 32)
            ahead = with_payload(claim, packet._replace(interval=packet.interval, payload=b"x").encode())
            verdicts += receiver.receive(ahead, at)
            forged += 1
    assert proved(verdicts) == WORDS


def test_key_tests_are_bounded_however_many_are_forged():
    source = Source(TESLA, setting_of(TESLA))
    at, bootstrap = START, source.say([b"x"], START)[0]
    receiver = source.receiver()
    assert [verdict.cause for verdict in receiver.receive(bootstrap, at)] == [""]
    later = at + 50  # 500 intervals later
    interval = int(later * 10)
    steps = interval - source.setting.policy.tesla_disclosure - (int(at * 10) - 3) + 1
    told = []
    for number in range(200):
        forged = Timed(CONTENT, interval, bytes(16), number.to_bytes(32, "big"), b"")
        claim = with_payload(source.say([b"y"], at)[-1], forged.encode())
        told += [verdict.cause for verdict in receiver.receive(claim, later)]
    # the others were not tested: they are kept, or, since all have one number, taken for the same packet
    assert told.count("source-key") == STEPS_A_SECOND // steps < 20


def test_a_chain_that_is_too_long_for_a_key_test_is_malformed():
    source = Source(TESLA, setting_of(TESLA))
    claim = source.say([b"x"], START)[0]
    long = parse(claim.payload)
    assert isinstance(long, Bootstrap)
    forged = with_payload(claim, long._replace(length=LENGTH + 1).encode())
    assert [verdict.cause for verdict in source.receiver().receive(forged, START)] == ["source-malformed"]


def test_bootstraps_that_are_forged_are_verified_a_few_times_a_second():
    source = Source(TESLA, setting_of(TESLA))
    claim = source.say([b"x"], START)[0]
    receiver, told = source.receiver(), list[str]()
    for number in range(100):
        forged = with_payload(claim, Bootstrap(number, 10, bytes(32)).encode())
        told += [verdict.cause for verdict in receiver.receive(forged, START)]
    assert told.count("source-signature") == 16 and told.count("source-buffer") == 84


def test_a_talk_of_many_chains_is_heard_through():
    """Each 102 seconds the source draws another chain."""
    source = Source(TESLA, setting_of(TESLA))
    words = [f"word {number}".encode() for number in range(1_500)]
    sent = source.speak(words, seconds=300.0)
    firsts = {parse(claim.payload).first for _, claim in sent if kind(claim) == BOOTSTRAP}  # type: ignore[union-attr]
    assert len(firsts) >= 3
    receiver, heard = source.receiver(), list[bytes]()
    for at, claim in sent:
        source.setting.clock.bound = type(clock_of().bound).by(at, at, at)  # type: ignore[union-attr]
        heard += proved(receiver.receive(claim, at))
    assert heard == words


# ---- who comes late, what is kept


def test_what_came_before_the_bootstrap_is_proved_by_it():
    source = Source(TESLA, setting_of(TESLA))
    sent = source.speak(WORDS, seconds=2.0)
    first, *rest = sorted((each for each in sent if kind(each[1]) == BOOTSTRAP), key=lambda each: each[0])
    late = [each for each in sent if each[1] is not first[1] and each not in rest[:2]]
    heard = proved(hear(source.receiver(), late))
    assert heard and heard[-1] == WORDS[-1] and set(heard) <= set(WORDS) and len(heard) > 80


def test_who_stops_talking_discloses_what_was_said_last():
    source = Source(TESLA, setting_of(TESLA))
    sent = source.speak(WORDS)
    disclosures = [each for each in sent if kind(each[1]) == DISCLOSURE]
    assert disclosures and source.sender.wake_at() is None
    for number in range(len(disclosures) - 2, len(disclosures)):  # all but one of the last are lost
        kept = [each for each in sent if each not in disclosures or each is disclosures[number]]
        assert proved(hear(source.receiver(), kept)) == WORDS


def test_a_packet_played_again_before_its_key_comes_is_told_apart():
    source = Source(TESLA, setting_of(TESLA))
    sent = source.speak(WORDS)
    twice = sorted([*sent, *((at + 0.01, claim) for at, claim in sent)], key=lambda each: each[0])
    verdicts = hear(source.receiver(), twice)
    assert proved(verdicts) == WORDS
    assert [verdict.cause for verdict in verdicts].count("source-repeated") >= len(WORDS)


def test_what_waits_is_bounded_and_given_up_in_time():
    plain = setting_of(TESLA)
    setting = Setting(plain.domain, plain.group_id, plain.policy, plain.clock, Buffer(5_000))
    source = Source(TESLA, setting)
    claims = [claim for claim in source.say(WORDS, START) if kind(claim) == CONTENT]
    receiver = source.receiver()
    told = [verdict.cause for claim in claims for verdict in receiver.receive(claim, START)]
    assert told == ["source-buffer"] * (len(WORDS) - 7)
    assert receiver.woken(START + 2) == []
    assert [verdict.cause for verdict in receiver.woken(START + 8)] == ["source-undisclosed"] * 7
    assert setting.buffer.left == 5_000


def test_who_is_gone_gives_its_room_back():
    setting = setting_of(TESLA)
    source, left = Source(TESLA, setting), setting.buffer.left
    receiver = source.receiver()
    for claim in source.say(WORDS, START):
        receiver.receive(claim, START)
    assert setting.buffer.left < left
    receiver.close()
    assert setting.buffer.left == left


# ---- policy, bytes


def test_a_policy_without_time_for_packets_is_refused():
    with pytest.raises(Refused, match="leave no time"):
        policy_of(TESLA, tesla_clock_ms=200)
    policy_of(TESLA, tesla_clock_ms=199)


@pytest.mark.parametrize("raw", [b"", b"\x00" * 56, b"\x01" * 113, b"\x01" * 115, b"\x03" * 80, b"\x02" * 58])
def test_other_bytes_are_no_packet(raw: bytes):
    with pytest.raises(Rejected, match="source-malformed"):
        parse(raw)


@pytest.mark.parametrize("what", ["payload", "ports", "kind"])
def test_a_forged_packet_with_the_mac_of_the_sources_own_does_not_take_its_place(what: str) -> None:
    """The forger heard it before this receiver did."""
    source = Source(TESLA, setting_of(TESLA))
    sent: Sent = []
    for at, claim in source.speak([b"one", b"two"]):
        if kind(claim) == CONTENT:
            raw = claim.payload
            forged = {
                "payload": with_payload(claim, raw[:-1] + b"?"),
                "ports": changed(claim, destination_port=7),
                "kind": with_payload(claim, bytes((DISCLOSURE,)) + raw[1:57]),
            }
            sent.append((at, forged[what]))
        sent.append((at, claim))
    assert proved(hear(source.receiver(), sent)) == [b"one", b"two"]
