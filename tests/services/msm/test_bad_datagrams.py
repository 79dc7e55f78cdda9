"""What a receiver does with datagrams that nobody of its group sent: nothing, counted by cause, whatever they are."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.inbound import CAUSES
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.slab import SLAB_SIZE, Slab
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey
from mcsa.policy import complete_policy
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm.events import InstallEpoch, SetRoster, UnknownEpochSeen
from services.msm.held import HELD_AT_ONCE, HELD_BYTES, HOLD_FOR
from services.msm.path import HINT_EVERY, GroupPath, Received

DOMAIN, GROUP_ID, EPOCH = "example.org", bytes(range(16)), 1_800_000_000_000
KEY, NEXT = GroupKey(bytes(32)), GroupKey(b"\1" * 32)
SENDER, OWN, SOURCE, NOW = 5, 6, "198.18.0.5", 1_000.0


def path() -> GroupPath:
    made = GroupPath(
        DOMAIN, GroupDescription(group_id=GROUP_ID, port=5004, ttl=2, policy=complete_policy(GroupPolicy()))
    )
    made.carry_out(InstallEpoch(GROUP_ID, EPOCH, KEY), NOW)
    made.carry_out(SetRoster(GROUP_ID, {SENDER: SOURCE, OWN: "198.18.0.6"}, OWN, 1), NOW)
    return made


def sender(epoch: int = EPOCH, key: GroupKey = KEY, sender_id: int = SENDER) -> OutboundAssociation:
    suite = suite_named("aes-256-gcm")
    return OutboundAssociation(derive_traffic_key(key, DOMAIN, GROUP_ID, epoch, suite, sender_id))


def dropped(made: GroupPath) -> int:
    """All datagrams that were dropped, each by one cause; what was held and opened later is none of them."""
    return sum(made.counters[cause] for cause in CAUSES) - made.counters["held-then-opened"]


# ---- counted, whatever they are


@pytest.mark.parametrize("size", [0, 1, 3, 4, 43, 44, 65_507])
@pytest.mark.parametrize("batched", [False, True], ids=["one by one", "batched"])
def test_a_datagram_of_any_size_is_counted_once(size: int, batched: bool) -> None:
    made, slab = path(), Slab()
    if batched:
        made.open_batch(slab, size, size or SLAB_SIZE, SOURCE, NOW)
    else:
        made.open(bytes(size), SOURCE, NOW)
    assert made.counters == {"short" if size < 44 else "unknown-sender": 1}


@pytest.mark.parametrize("segment_size", [-1, 0, 1, 15, 43, 44, 100, 65_535, 65_536, 2**31 - 1])
@pytest.mark.parametrize("length", [0, 1, 44, 100, 1_000, 65_507])
def test_no_segment_size_that_a_kernel_may_say_breaks_it(length: int, segment_size: int) -> None:
    made, slab = path(), Slab()
    slab.view[:100] = sender().seal(bytes(56), 1, 2)
    found = made.open_batch(slab, length, segment_size, SOURCE, NOW)
    expected = -(-length // segment_size) if segment_size > 0 and length else 1
    assert len(found) + dropped(made) == expected
    assert len(found) == (length >= 100 and (segment_size == 100 or (length == 100 and not 1 <= segment_size < 100)))


_good = sender()
GOOD: list[bytes] = [_good.seal(bytes((n,)) * 20, 5004, 5004) for n in range(20)]
DATAGRAMS = st.lists(
    st.one_of(
        st.binary(max_size=120),
        st.builds(  # of a known sender, in an epoch that is installed or isn't
            lambda tag, number, rest: (tag << 20 | SENDER).to_bytes(4, "big") + number.to_bytes(4, "big") + rest,
            st.sampled_from([EPOCH % 4_095 + 1, 1, 0]),
            st.integers(0, 2**32 - 1),
            st.binary(max_size=120),
        ),
        st.builds(
            lambda number, bit: bytes(b ^ (bit == n) for n, b in enumerate(GOOD[number])),
            st.integers(0, 19),
            st.integers(-60, 80),
        ),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(DATAGRAMS)
def test_what_comes_is_opened_or_counted_by_one_cause_alike_in_both_ways(datagrams: list[bytes]) -> None:
    alone, batched, slab = path(), path(), Slab()
    heard: dict[int, list[object]] = {0: [], 1: []}
    for datagram in datagrams:
        heard[0] += [each for each in alone.open(datagram, SOURCE, NOW) if isinstance(each, Received)]
        slab.view[: len(datagram)] = datagram
        found = batched.open_batch(slab, len(datagram), len(datagram) or SLAB_SIZE, SOURCE, NOW)
        heard[1] += [each for each in found if isinstance(each, Received)]
    assert heard[0] == heard[1]
    assert alone.counters == batched.counters
    assert len(heard[0]) + dropped(alone) == len(datagrams)


# ---- packets of an epoch that may come: anybody can send what looks like one


def early(number: int, size: int = 0) -> bytes:
    """Looks like a packet of an epoch that is not installed; only who has no key sends it."""
    tag = number % 4_094 + 1
    tag += tag >= EPOCH % 4_095 + 1
    return (tag << 20 | SENDER).to_bytes(4, "big") + bytes(max(size, 60))


@pytest.mark.parametrize("batched", [False, True], ids=["one by one", "batched"])
def test_a_flood_of_unknown_epochs_gives_few_hints(batched: bool) -> None:
    """Each hint is a call into the event loop, from a thread that is faster than it."""
    made, slab, hints = path(), Slab(), 0
    for number in range(10_000):
        packet, now = early(number), NOW + number / 10_000
        slab.view[: len(packet)] = packet
        found = (
            made.open_batch(slab, len(packet), len(packet), SOURCE, now) if batched else made.open(packet, SOURCE, now)
        )
        hints += found.count(UnknownEpochSeen(GROUP_ID))
    assert 2 <= hints <= 1 / HINT_EVERY + 1
    assert made.counters["unknown-epoch"] == 10_000


def test_hints_come_again_after_a_while() -> None:
    made = path()
    assert made.open(early(1), SOURCE, NOW) == [UnknownEpochSeen(GROUP_ID)]
    assert made.open(early(1), SOURCE, NOW) == []
    assert made.open(early(1), SOURCE, NOW + HINT_EVERY) == [UnknownEpochSeen(GROUP_ID)]
    assert made.open(early(1), SOURCE, NOW - 3_600) == [UnknownEpochSeen(GROUP_ID)]  # the clock was set back


def test_a_flood_of_unknown_epochs_is_held_within_bounds() -> None:
    made = path()
    for number in range(2 * HELD_AT_ONCE):
        made.open(early(number, 60_000), SOURCE, NOW)
        assert sum(len(held.datagram) for held in made._held) <= HELD_BYTES
    for number in range(2 * HELD_AT_ONCE):
        made.open(early(number), SOURCE, NOW)
    assert len(made._held) == HELD_AT_ONCE
    assert made.counters["held-too-many"] == 3 * HELD_AT_ONCE


def test_what_was_held_in_vain_goes_when_the_next_is_held() -> None:
    made = path()
    for number in range(100):
        made.open(early(number), SOURCE, NOW)
    made.open(early(100), SOURCE, NOW + 2 * HOLD_FOR)
    assert len(made._held) == 1
    assert made.counters["held-too-long"] == 100


def test_every_held_packet_is_counted_once_whatever_becomes_of_it() -> None:
    made, later = path(), sender(EPOCH + 1, NEXT)
    good = [later.seal(bytes(20), 1, 2) for _ in range(5)]
    forged = good[0][:-1] + bytes((good[0][-1] ^ 1,))
    datagrams = [*good, good[0], forged, early(7)]
    for datagram in datagrams:
        made.open(datagram, SOURCE, NOW)
    found = made.carry_out(InstallEpoch(GROUP_ID, EPOCH + 1, NEXT), NOW)
    assert len([each for each in found if isinstance(each, Received)]) == made.counters["opened"] == 5
    assert dropped(made) == len(datagrams) - 5
    assert made.counters["held-then-rejected"] == 2  # the replay and the forged one


# ---- many


def test_a_hundred_thousand_of_all_kinds_leave_no_state_and_audio_goes_on() -> None:
    made, slab, draw, audio = path(), Slab(), random.Random(4), sender()
    sent: Counter[str] = Counter()
    for number in range(1_600):
        size = draw.choice([60, 100, 172, 1_400])
        amount = min(64, SLAB_SIZE // size)
        for place in range(amount):
            start = place * size
            slab.view[start : start + 4] = draw.choice(
                [draw.randbytes(4), early(draw.randrange(4_000))[:4], GOOD[0][:4], OWN.to_bytes(4, "big")]
            )
        slab.view[4 : 4 + 8] = draw.randbytes(8)
        source = draw.choice([SOURCE, "198.18.0.66"])
        assert not [
            e for e in made.open_batch(slab, amount * size, size, source, NOW + number) if e.__class__ is Received
        ]
        sent["forged"] += amount
        assert [each.payload for each in made.open(audio.seal(b"audio", 5004, 5004), SOURCE, NOW + number)] == [
            b"audio"
        ]
    assert sent["forged"] == dropped(made) >= 60_000
    assert made.counters["opened"] == 1_600
    assert {cause for cause in CAUSES if made.counters[cause]} == set(CAUSES) - {"short", "inner"}
    assert [len(epoch.associations) for epoch in made._inbound._epochs.values()] == [1]
