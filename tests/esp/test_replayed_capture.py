"""All that was ever on the wire, once more: replayed packets, and packets that were meant for other groups."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from mcsa.errors import Rejected
from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.inbound import InboundAssociations
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.spi import EPOCH_TAGS
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey
from tests.esp.parts import (
    DOMAIN,
    EPOCH,
    GROUP_ID,
    KEY,
    OTHER_KEY,
    SENDER,
    SOURCE,
    SUITES,
    inbound,
    open_together,
    outbound,
)

SENDERS = (SENDER, SENDER + 1, SENDER + 2)
suites = pytest.mark.parametrize("suite", SUITES)
ways = pytest.mark.parametrize("at_once", [1, 7, 64])  # packets in a batch; 1: each by itself, without one


def receiver_of(suite: str) -> InboundAssociations:
    made = inbound(suite)
    made.install(EPOCH + 1, OTHER_KEY)
    made.set_roster(dict.fromkeys(SENDERS, SOURCE))
    return made


def capture(suite: str, seed: int) -> list[bytes]:
    """Three senders through a rollover, in the order of a network that reorders a little."""
    draw, packets = random.Random(seed), []
    for epoch, key in ((EPOCH, KEY), (EPOCH + 1, OTHER_KEY)):
        for sender in (outbound(suite, epoch, number, key) for number in SENDERS):
            packets += [sender.seal(bytes((n % 256,)) * 20, 5004, 5006) for n in range(150)]
    order = sorted(range(len(packets)), key=lambda place: place % 150 + draw.random() * 60)
    return [packets[place] for place in order]


def hand_over(receiver: InboundAssociations, packets: list[bytes], at_once: int) -> Counter[str]:
    """What became of them."""
    became: Counter[str] = Counter()
    if at_once == 1:
        for packet in packets:
            try:
                receiver.open(packet, SOURCE)
                became["opened"] += 1
            except Rejected as rejected:
                became[rejected.cause] += 1
        return became
    for start in range(0, len(packets), at_once):
        batch = open_together(receiver, packets[start : start + at_once])
        became["opened"] += sum(len(run.payloads) for run in batch.runs)
        became.update(batch.rejected)
    return +became


@suites
@ways
def test_a_capture_opens_once_and_never_again(suite: str, at_once: int) -> None:
    receiver, packets = receiver_of(suite), capture(suite, seed=1)
    assert hand_over(receiver, packets, at_once) == {"opened": len(packets)}
    for again in (packets, packets[::-1], capture(suite, seed=2)):
        assert hand_over(receiver, again, at_once) == {"replay": len(packets)}
    assert {cause: n for cause, n in receiver.counters().items() if n} == {
        "opened": len(packets),
        "replay": 3 * len(packets),
    }


@suites
@ways
def test_a_capture_in_which_each_packet_is_doubled_opens_once(suite: str, at_once: int) -> None:
    packets = [packet for packet in capture(suite, seed=3) for _ in range(2)]
    assert hand_over(receiver_of(suite), packets, at_once) == {"opened": len(packets) // 2, "replay": len(packets) // 2}


@suites
@ways
def test_what_was_captured_before_the_epoch_was_dropped_is_of_no_use_after(suite: str, at_once: int) -> None:
    receiver, packets = receiver_of(suite), capture(suite, seed=4)
    receiver.drop(EPOCH)
    half = len(packets) // 2
    assert hand_over(receiver, packets, at_once) == {"opened": half, "unknown-epoch": half}
    assert hand_over(receiver, packets, at_once) == {"replay": half, "unknown-epoch": half}


# ---- other groups on the same port


OTHERS: dict[str, tuple[str, bytes, int, GroupKey]] = {  # domain, group, epoch, key
    "another group's key": (DOMAIN, GROUP_ID, EPOCH, OTHER_KEY),
    "another group, by chance of the same key": (DOMAIN, bytes(16), EPOCH, KEY),
    "another domain": ("example.net", GROUP_ID, EPOCH, KEY),
    "an epoch with the same tag": (DOMAIN, GROUP_ID, EPOCH + EPOCH_TAGS, KEY),
    "an epoch with the same tag, long ago": (DOMAIN, GROUP_ID, EPOCH - EPOCH_TAGS, KEY),
}


@suites
@ways
@pytest.mark.parametrize("other", OTHERS)
def test_packets_of_another_group_of_the_same_spi_do_not_open_nor_disturb(suite: str, at_once: int, other: str) -> None:
    domain, group_id, epoch, key = OTHERS[other]
    theirs = OutboundAssociation(derive_traffic_key(key, domain, group_id, epoch, suite_named(suite), SENDER))
    ours, receiver = outbound(suite), inbound(suite)
    assert theirs.spi == ours.spi
    mixed = [sender.seal(bytes(20), 5004, 5006) for _ in range(300) for sender in (theirs, ours)]
    assert hand_over(receiver, mixed, at_once) == {"opened": 300, "integrity": 300}


@ways
@pytest.mark.parametrize("theirs", SUITES)
@pytest.mark.parametrize("ours", SUITES)
def test_packets_of_another_suite_do_not_open(theirs: str, ours: str, at_once: int) -> None:
    packets = [outbound(theirs).seal(bytes(20), 5004, 5006)] * 10
    became = {"opened": 1, "replay": 9} if theirs == ours else {"integrity": 10}
    assert hand_over(inbound(ours), packets, at_once) == became
