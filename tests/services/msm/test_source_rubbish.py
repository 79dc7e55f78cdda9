"""Groups whose policy authenticates sources, and a member that sends anything in another member's name.

It has the group key and so the other's SPI; packets of its making open. Whatever is in them, nothing of it is heard,
nothing stops, each is counted, and the other's own packets are heard as if nobody had forged any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsa.esp.derive import TrafficKey, derive_traffic_key
from mcsa.esp.inbound import CAUSES
from mcsa.esp.inner import UDP_HEADER_SIZE, frame_for, payload_end
from mcsa.esp.slab import HEADER_SIZE, SLAB_SIZE, Slab
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey
from mcsa.policy import complete_policy
from mcsa.source_authentication import CAUSES as SOURCE_CAUSES
from mcsa.source_authentication import ClockBound, SourceKey, modes
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm.events import InstallEpoch, SetClock, SetRoster, SetSource, SwitchSending
from services.msm.path import GroupPath, Received

DOMAIN, GROUP_ID, EPOCH, START = "example.org", bytes(range(16)), 1_800_000_000_000, 1_800_000_000.0
KEY = GroupKey(bytes(32))
SENDER, RECEIVER, SOURCE = 5, 6, "198.18.0.5"
MODES = [name for name, mode in modes().items() if mode.promises.authenticates]
SAID = [b"word %d" % number * (number % 5) for number in range(24)]
each_mode = pytest.mark.parametrize("mode", MODES)


class Sent(NamedTuple):
    at: float
    packet: bytes


def path(mode: str, own: int, key: SourceKey, sender_public: bytes) -> GroupPath:
    """Of a member, in the middle of a talk."""
    policy = complete_policy(GroupPolicy(source_authentication=mode, source_block=4, source_block_ms=20))
    made = GroupPath(DOMAIN, GroupDescription(group_id=GROUP_ID, port=5004, ttl=2, policy=policy))
    keys = {SENDER: sender_public, RECEIVER: key.public} if own == RECEIVER else {SENDER: sender_public}
    addresses = {SENDER: SOURCE, RECEIVER: "198.18.0.6"}
    for effect in (
        InstallEpoch(GROUP_ID, EPOCH, KEY),
        SetRoster(GROUP_ID, addresses, own, None, source_keys=keys, announced=GROUP_ID),
        SetClock(GROUP_ID, ClockBound.by(START, START, START)),
        SetSource(GROUP_ID, own, key, GROUP_ID),
        SwitchSending(GROUP_ID, EPOCH, own),
    ):
        made.carry_out(effect, START)
    return made


def talk(mode: str) -> tuple[list[Sent], GroupPath]:
    """What a source sends in three seconds, and a receiver that has heard nothing of it yet."""
    key = SourceKey()
    sender, receiver = path(mode, SENDER, key, key.public), path(mode, RECEIVER, SourceKey(), key.public)
    sent: list[Sent] = []
    at = START
    for payload in SAID:
        while (wake_at := sender.wake_at()) is not None and wake_at <= at:
            sent += packets_of(sender.woken(wake_at), wake_at)
        sent += packets_of(sender.say([payload], 5004, 5004, at), at)
        at += 3 / len(SAID)
    while (wake_at := sender.wake_at()) is not None:
        sent += packets_of(sender.woken(wake_at), wake_at)
    return sent, receiver


def packets_of(outgoing: Iterator[object], at: float) -> list[Sent]:
    found = []
    for each in outgoing:
        view, size = each.packets.view, each.packets.segment_size  # type: ignore[attr-defined]
        found += [Sent(at, bytes(view[start : start + size])) for start in range(0, len(view), size)]
    return found


def traffic_key() -> TrafficKey:
    return derive_traffic_key(KEY, DOMAIN, GROUP_ID, EPOCH, suite_named("aes-256-gcm"), SENDER)


def inside(packet: bytes) -> bytes:
    """What any member sees of it: what authenticates the source, and the payload."""
    key = traffic_key()
    plaintext = key.cipher().decrypt(key.salt + packet[8:16], packet[HEADER_SIZE:], packet[:8])
    return plaintext[UDP_HEADER_SIZE : payload_end(plaintext)]


def forge(packet: bytes, payload: bytes, ports: tuple[int, int] = (5004, 5004)) -> bytes:
    """Another inside under the same SPI, number and IV."""
    key, (before, after) = traffic_key(), frame_for(len(payload), *ports)
    sealed = key.cipher().encrypt(key.salt + packet[8:16], before + payload + after, packet[:8])
    return packet[:HEADER_SIZE] + sealed


def hear(receiver: GroupPath, packets: Sequence[Sent], delay: float = 0.002) -> list[bytes]:
    """The payloads that applications are given."""
    found = [item for at, packet in packets for item in receiver.open(packet, SOURCE, at + delay)]
    heard = [each for each in found if isinstance(each, Received) and each.is_heard]
    assert {(each.sender_id, each.destination_port) for each in heard} <= {(SENDER, 5004)}
    return [each.payload for each in heard]


def dropped(receiver: GroupPath) -> int:
    causes = (*CAUSES, *SOURCE_CAUSES, "source-unknown")
    return sum(receiver.counters[cause] for cause in causes) - receiver.counters["held-then-opened"]


def unproved(mode: str) -> int:
    """Packets at the end whose key nobody discloses: they disclose those of what was said."""
    return 3 if mode == "tesla" else 0


@each_mode
def test_the_talk_is_heard_where_nobody_forges(mode: str) -> None:
    sent, receiver = talk(mode)
    assert hear(receiver, sent) == SAID
    assert (receiver.counters["opened"], dropped(receiver)) == (len(sent) - unproved(mode), 0)


@each_mode
def test_each_byte_that_a_member_changes_in_anothers_packet_is_noticed_and_harms_nothing(mode: str) -> None:
    sent, receiver = talk(mode)
    everything: list[Sent] = []
    forged = 0
    for at, packet in sent:
        content = inside(packet)
        places = range(len(content)) if len(content) < 400 else range(0, len(content), 7)
        if mode == "tesla" and content[0] == 1:  # bootstraps are believed by their signature: so many a second, no more
            places = range(0, len(content), 40)
        for place in places:
            broken = bytearray(content)
            broken[place] ^= 1 << place % 8
            everything.append(Sent(at, forge(packet, bytes(broken))))
            forged += 1
        everything += [Sent(at, forge(packet, content, ports=(5004, 5006))), Sent(at, packet)]
        forged += 1
    assert hear(receiver, everything) == SAID
    receiver.open(sent[-1].packet, SOURCE, sent[-1].at + 100)  # what still waits for a key is given up
    assert receiver.counters["opened"] == len(sent) - unproved(mode)
    assert dropped(receiver) == forged + 1 + unproved(mode)


@each_mode
def test_a_capture_that_is_played_again_is_not_heard_again(mode: str) -> None:
    sent, receiver = talk(mode)
    assert hear(receiver, [each for each in sent for _ in range(2)]) == SAID
    assert hear(receiver, sent) == hear(receiver, [Sent(sent[-1].at, packet) for _, packet in sent]) == []
    receiver.open(sent[-1].packet, SOURCE, sent[-1].at + 100)
    assert receiver.counters["opened"] == len(sent) - unproved(mode)
    assert dropped(receiver) == 3 * len(sent) + unproved(mode) + 1
    causes = {cause for cause in (*CAUSES, *SOURCE_CAUSES) if receiver.counters[cause]}
    assert causes <= {"replay", "source-repeated", "source-late", "source-undisclosed"}


@each_mode
@settings(deadline=None, max_examples=60)
@given(payloads=st.lists(st.tuples(st.binary(max_size=200), st.integers(1, 2**32 - 1), st.booleans()), max_size=12))
def test_a_member_can_not_be_heard_as_another_whatever_it_sends(
    mode: str, payloads: list[tuple[bytes, int, bool]]
) -> None:
    sent, receiver = talk(mode)
    rubbish = []
    for payload, number, begins_well in payloads:
        header = sent[0].packet[:4] + number.to_bytes(4, "big") + number.to_bytes(8, "big")
        begin = inside(sent[len(sent) // 2].packet)[:66] if begins_well else b""
        rubbish.append(Sent(START + 0.5, forge(header, begin + payload)))
    assert hear(receiver, rubbish) == []
    assert hear(receiver, sent) == SAID


# ---- whatever a kernel may say


@each_mode
@pytest.mark.parametrize("size", [0, 1, 43, 44, 65_507])
@pytest.mark.parametrize("batched", [False, True], ids=["one by one", "batched"])
def test_a_datagram_of_any_size_is_counted_once(mode: str, size: int, batched: bool) -> None:
    _, receiver = talk(mode)
    if batched:
        receiver.open_batch(Slab(), size, size or SLAB_SIZE, SOURCE, START)
    else:
        receiver.open(bytes(size), SOURCE, START)
    assert receiver.counters == {"short" if size < 44 else "unknown-sender": 1}


@each_mode
@pytest.mark.parametrize("segment_size", [-1, 0, 1, 44, 65_536, 2**31 - 1])
@pytest.mark.parametrize("length", [0, 1, 44, 1_000])
def test_no_segment_size_that_a_kernel_may_say_breaks_it(mode: str, length: int, segment_size: int) -> None:
    _, receiver = talk(mode)
    assert receiver.open_batch(Slab(), length, segment_size, SOURCE, START) == []
    assert dropped(receiver) == (-(-length // segment_size) if segment_size > 0 and length else 1)
