from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsa.errors import Rejected
from mcsa.esp import inbound as opening
from mcsa.esp.derive import TrafficKey, derive_traffic_key
from mcsa.esp.inbound import CAUSES, UNPROVEN_AT_MOST, InboundAssociations, Run
from mcsa.esp.spi import EPOCH_TAGS, SENDER_ID_LIMIT
from mcsa.esp.suite import suite_named
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
    traffic_key,
)

PACKET = outbound().seal(b"hello", 5004, 5006)


def cause_of(receiver: InboundAssociations, packet: bytes, source: str = SOURCE) -> str:
    before = receiver.counters()
    with pytest.raises(Rejected) as rejected:
        receiver.open(packet, source)
    cause = rejected.value.cause
    assert receiver.counters() == before | {cause: before[cause] + 1}
    return cause


def sealed_by_hand(key: TrafficKey, sequence: int, plaintext: bytes) -> bytes:
    header = key.spi.to_bytes(4, "big") + sequence.to_bytes(4, "big") + b"kernel's"  # any IV is read from the packet
    return header + key.cipher().encrypt(key.salt + header[8:], plaintext, header[:8])


MALFORMED = bytes(4) + bytes((0, 8, 0, 0)) + bytes((1, 2, 2, 6))  # TCP inside


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_one_seals_the_other_opens(suite: str, kind: Callable[[bytes], bytes]) -> None:
    opened = inbound(suite).open(kind(outbound(suite).seal(b"hello", 5004, 5006)), SOURCE)
    assert opened == (SENDER, EPOCH, 1, 5004, 5006, b"hello")
    assert type(opened.payload) is bytes


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.sampled_from([0, 5, 160]), st.sampled_from([5004, 6000]))))
def test_whatever_is_sealed_opens_alike_in_batches_and_one_by_one(parts: list[tuple[int, int, int]]) -> None:
    senders = {sender: outbound(sender=sender) for sender in (1, 2)}
    packets = [senders[sender].seal(bytes(size), port, port) for sender, size, port in parts]
    together, apart = inbound(), inbound()
    for receiver in (together, apart):
        receiver.set_roster({1: SOURCE, 2: SOURCE})
    flat = []
    for packet in packets:
        for run in open_together(together, [packet]).runs:
            flat += [(run.sender_id, run.destination_port, payload) for payload in run.payloads]
    one_by_one = [apart.open(packet, SOURCE) for packet in packets]
    assert flat == [(each.sender_id, each.destination_port, each.payload) for each in one_by_one]
    assert together.counters() == apart.counters()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 90), st.booleans()), max_size=64))
def test_a_batch_rejects_what_opening_one_by_one_rejects(parts: list[tuple[int, bool]]) -> None:
    """Any order, repetitions, senders mixed and packets broken; of one size, as they share a batch."""
    senders = [outbound(sender=sender) for sender in (1, 2, 3)]
    packets = [senders[n % 3].seal(n.to_bytes(8, "big"), 5004, 5004 + (n > 60)) for n in range(91)]
    chosen = [packets[n] if whole else packets[n][:-1] + bytes((packets[n][-1] ^ 1,)) for n, whole in parts]
    together, apart = inbound(window=64), inbound(window=64)
    for receiver in (together, apart):
        receiver.set_roster({1: SOURCE, 2: SOURCE})  # 3 is unknown
    opened, causes = [], []
    for packet in chosen:
        try:
            each = apart.open(packet, SOURCE)
            opened.append((each.sender_id, each.sequence, each.destination_port, each.payload))
        except Rejected as rejected:
            causes.append(rejected.cause)
    batch = open_together(together, chosen) if chosen else None
    assert [
        (run.sender_id, sequence, run.destination_port, payload)
        for run in (batch.runs if batch else [])
        for sequence, payload in enumerate(run.payloads, run.first_sequence)
    ] == opened
    assert (batch.rejected if batch else []) == causes
    assert together.counters() == apart.counters()


def test_packets_alike_are_one_run() -> None:
    sender = outbound()
    packets = [sender.seal(bytes((n,)) * 20, 5004, port) for n, port in enumerate((1, 1, 2, 2))]
    assert open_together(inbound(), packets).runs == [
        Run(SENDER, EPOCH, 1, 5004, 1, [bytes(20), b"\x01" * 20]),
        Run(SENDER, EPOCH, 3, 5004, 2, [b"\x02" * 20, b"\x03" * 20]),
    ]


def test_where_a_number_is_missing_or_late_another_run_begins() -> None:
    sender = outbound()
    packets = [sender.seal(b"%d" % number, 1, 2) for number in range(1, 8)]
    runs = open_together(inbound(), [packets[number - 1] for number in (1, 2, 4, 3, 5, 7)]).runs
    expected = [(1, [b"1", b"2"]), (4, [b"4"]), (3, [b"3"]), (5, [b"5"]), (7, [b"7"])]
    assert [(run.first_sequence, run.payloads) for run in runs] == expected


def framed(ports: bytes, checksum: bytes, payload: bytes, trailer: bytes) -> bytes:
    return ports + (8 + len(payload)).to_bytes(2, "big") + checksum + payload + trailer


def opened_of(plaintexts: list[bytes]) -> tuple[list[Run], list[str]]:
    batch = open_together(inbound(), [sealed_by_hand(traffic_key(), n, p) for n, p in enumerate(plaintexts, 1)])
    return batch.runs, batch.rejected


def test_a_checksum_of_its_own_makes_no_run_of_its_own() -> None:  # the kernel's IPsec carries real ones
    plaintexts = [framed(b"\0\1\0\2", bytes((n, n)), b"%02d" % n, b"\0\x11") for n in range(5)]
    assert opened_of(plaintexts) == ([Run(SENDER, EPOCH, 1, 1, 2, [b"%02d" % n for n in range(5)])], [])


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b"\1\1\x11", b"\2\1\x11"),
        (b"\1\2\2\x11", b"\1\3\2\x11"),
        (b"\1\2\2\x11", b"\2\2\2\x11"),
        (b"\1\2\3\3\x11", b"\2\2\3\3\x11"),
        (b"\1\2\3\3\x11", b"\1\2\4\3\x11"),
        (b"\1\2\3\4\4\x11", b"\1\3\3\4\4\x11"),
        (bytes(range(1, 10)) + b"\x09\x11", b"\2" + bytes(range(2, 10)) + b"\x09\x11"),
        (b"\0\x11", b"\0\x06"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_each_trailer_of_a_batch_is_checked(right: bytes, wrong: bytes, place: int) -> None:
    payload = b"!" * (4 - (len(right) % 4 or 4) + 4)
    plaintexts = [framed(b"\0\1\0\2", bytes(2), payload, wrong if n == place else right) for n in range(4)]
    runs, rejected = opened_of(plaintexts)
    assert rejected == ["inner"]
    assert [each for run in runs for each in run.payloads] == [payload] * 3


def test_a_length_that_does_not_fit_is_found_in_a_batch() -> None:
    good = framed(b"\0\1\0\2", bytes(2), b"ab", b"\0\x11")
    for broken in (good[:5] + b"\x0b" + good[6:], good[:4] + b"\1" + good[5:]):
        runs, rejected = opened_of([good, broken, good])
        assert rejected == ["inner"]
        assert [(run.first_sequence, run.payloads) for run in runs] == [(1, [b"ab"]), (3, [b"ab"])]


def test_a_batch_goes_on_after_a_forged_packet_and_the_number_stays_free() -> None:
    sender, receiver = outbound(), inbound()
    packets = [sender.seal(b"%02d" % number, 1, 2) for number in range(1, 7)]
    forged = [*packets[:2], packets[2][:-1] + bytes((packets[2][-1] ^ 1,)), *packets[3:]]
    batch = open_together(receiver, forged)
    assert batch.rejected == ["integrity"]
    assert [(run.first_sequence, run.payloads) for run in batch.runs] == [
        (1, [b"01", b"02"]),
        (4, [b"04", b"05", b"06"]),
    ]
    assert receiver.open(packets[2], SOURCE).payload == b"03"
    assert open_together(receiver, packets).rejected == ["replay"] * 6


def test_a_batch_of_forged_packets_opens_nothing_and_closes_no_window() -> None:
    sender, receiver = outbound(), inbound()
    packets = [sender.seal(b"%02d" % number, 1, 2) for number in range(5)]
    forged = [packet[:-1] + bytes((packet[-1] ^ 1,)) for packet in packets]
    batch = open_together(receiver, forged)
    assert (batch.runs, batch.rejected) == ([], ["integrity"] * 5)
    assert derived(receiver) == 0
    assert [run.payloads for run in open_together(receiver, packets).runs] == [[b"%02d" % n for n in range(5)]]


def test_the_last_numbers_there_are_open_in_a_batch() -> None:
    good = framed(b"\0\1\0\2", bytes(2), b"ab", b"\0\x11")
    packets = [sealed_by_hand(traffic_key(), number, good) for number in (2**32 - 3, 2**32 - 2, 2**32 - 1, 0)]
    batch = open_together(inbound(), packets)
    assert [(run.first_sequence, len(run.payloads)) for run in batch.runs] == [(2**32 - 3, 3)]
    assert batch.rejected == ["replay"]


def test_packets_of_no_whole_words_are_opened_all_the_same() -> None:
    plaintext = framed(b"\0\1\0\2", bytes(2), b"abc", b"\0\x11")  # RFC 4303 would have padded it
    batch = open_together(inbound(), [sealed_by_hand(traffic_key(), number, plaintext) for number in (1, 2, 3)])
    assert [run.payloads for run in batch.runs] == [[b"abc"]] * 3


def test_the_last_packet_of_a_batch_may_be_shorter() -> None:
    sender = outbound()
    batch = open_together(inbound(), [sender.seal(size * b"x", 1, 2) for size in (100, 100, 7)])
    assert [len(payload) for run in batch.runs for payload in run.payloads] == [100, 100, 7]


# ---- every cause


@pytest.mark.parametrize("size", range(44))
def test_short(size: int) -> None:
    assert cause_of(inbound(), PACKET[:size]) == "short"


def test_short_in_batches() -> None:
    assert open_together(inbound(), [PACKET[:20], PACKET[:20], PACKET[:5]]).rejected == ["short"] * 3
    assert open_together(inbound(), [PACKET, PACKET[:20]]).rejected == ["short"]


def test_own() -> None:
    receiver = inbound()
    receiver.set_roster({SENDER: SOURCE}, own=[SENDER])
    assert cause_of(receiver, PACKET) == "own"
    assert open_together(receiver, [PACKET]).rejected == ["own"]


def test_unknown_sender() -> None:
    assert cause_of(inbound(), outbound(sender=6).seal(b"", 1, 2)) == "unknown-sender"


def test_an_spi_without_a_tag_is_nobodys() -> None:  # the non-ESP marker, or an SPI of somebody else's
    assert cause_of(inbound(), SENDER.to_bytes(4, "big") + PACKET[4:]) == "unknown-sender"


def test_wrong_source() -> None:
    assert cause_of(inbound(), PACKET, "198.18.0.6") == "wrong-source"


def test_unknown_epoch() -> None:
    packet = outbound(epoch=EPOCH + 1).seal(b"early", 1, 2)
    receiver = inbound()
    assert cause_of(receiver, packet) == "unknown-epoch"
    receiver.install(EPOCH + 1, KEY)
    assert receiver.open(packet, SOURCE).payload == b"early"


def test_a_batch_hands_back_what_is_early_and_nothing_else() -> None:
    sender = outbound(epoch=EPOCH + 1)
    packets = [sender.seal(bytes(20), 1, 2) for _ in range(3)]
    batch = open_together(inbound(), [*packets, outbound(epoch=EPOCH + 1, sender=9).seal(bytes(20), 1, 2)])
    assert batch.early == packets
    assert batch.rejected == ["unknown-epoch"] * 3 + ["unknown-sender"]
    assert open_together(inbound(), packets, "198.18.0.9").early == []


def test_replay() -> None:
    receiver = inbound()
    receiver.open(PACKET, SOURCE)
    assert cause_of(receiver, PACKET) == "replay"
    assert open_together(receiver, [PACKET, PACKET]).rejected == ["replay", "replay"]


def test_replay_within_a_batch() -> None:
    batch = open_together(inbound(), [PACKET, PACKET])
    assert [run.payloads for run in batch.runs] == [[b"hello"]]
    assert batch.rejected == ["replay"]


def test_older_than_the_window_is_a_replay() -> None:
    sender, receiver = outbound(), inbound(window=64)
    packets = [sender.seal(b"", 1, 2) for _ in range(65)]
    receiver.open(packets[64], SOURCE)
    assert cause_of(receiver, packets[0]) == "replay"
    assert receiver.open(packets[1], SOURCE).sequence == 2


def test_number_0_is_a_replay() -> None:
    packet = sealed_by_hand(traffic_key(), 0, MALFORMED)
    assert cause_of(inbound(), packet) == "replay"


@pytest.mark.parametrize("suite", SUITES)
def test_integrity_of_every_bit(suite: str) -> None:
    receiver, packet = inbound(suite), outbound(suite).seal(b"hello", 5004, 5006)
    for place in range(4, len(packet)):
        for bit in range(8):
            broken = bytearray(packet)
            broken[place] ^= 1 << bit
            cause = cause_of(receiver, bytes(broken))
            assert cause == "integrity" or (cause == "replay" and broken[4:8] == bytes(4))
    assert receiver.open(packet, SOURCE).payload == b"hello"  # and nothing that was forged closed the window


def test_a_changed_spi_finds_no_key_that_fits() -> None:
    receiver = inbound()
    for place in range(4):
        for bit in range(8):
            broken = bytearray(PACKET)
            broken[place] ^= 1 << bit
            assert cause_of(receiver, bytes(broken)) in ("unknown-sender", "unknown-epoch")


def test_a_packet_of_an_epoch_with_the_same_tag_does_not_open() -> None:
    assert cause_of(inbound(), outbound(epoch=EPOCH + EPOCH_TAGS).seal(b"", 1, 2)) == "integrity"


def test_one_member_can_not_seal_under_the_spi_of_another_without_the_group_key() -> None:
    other = traffic_key(sender=SENDER + 1)  # a send-only host has this and nothing else
    packet = sealed_by_hand(TrafficKey(other.reveal(), other.suite, traffic_key().spi), 1, MALFORMED)
    assert cause_of(inbound(), packet) == "integrity"


def test_inner() -> None:
    packet = sealed_by_hand(traffic_key(), 1, MALFORMED)
    receiver = inbound()
    assert cause_of(receiver, packet) == "inner"
    assert cause_of(receiver, packet) == "replay"  # it was authentic: its number is used up


def test_inner_in_a_batch_spoils_no_other() -> None:
    good = bytes.fromhex("0001 0002 0008 0000") + bytes((1, 2, 2, 17))
    plaintexts = [good, MALFORMED, good, good[:4] + MALFORMED[4:], good]
    batch = open_together(inbound(), [sealed_by_hand(traffic_key(), n + 1, p) for n, p in enumerate(plaintexts)])
    assert batch.rejected == ["inner", "inner"]
    assert [payload for run in batch.runs for payload in run.payloads] == [b"", b"", b""]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_it(datagram: bytes) -> None:
    receiver = inbound()
    receiver.set_roster(dict.fromkeys(range(0, SENDER_ID_LIMIT, 997), SOURCE))
    assert cause_of(receiver, datagram) in CAUSES
    if datagram:
        assert len(open_together(receiver, [datagram]).rejected) == 1


# ---- what is kept


def derived(receiver: InboundAssociations) -> int:
    return sum(len(epoch.associations) for epoch in receiver._epochs.values())


def test_a_forged_packet_leaves_no_state() -> None:
    receiver = inbound()
    cause_of(receiver, PACKET[:-1] + b"\0")
    open_together(receiver, [PACKET[:-1] + b"\0"])
    assert derived(receiver) == 0
    receiver.open(PACKET, SOURCE)
    assert derived(receiver) == 1


def forged(sender: int, sequence: int) -> bytes:
    """What anybody can make who has heard one packet of the epoch: the SPI is right, and nothing else."""
    return traffic_key(sender=sender).spi.to_bytes(4, "big") + sequence.to_bytes(4, "big") + bytes(60)


def test_who_forges_in_the_name_of_a_silent_sender_has_us_derive_once(monkeypatch: pytest.MonkeyPatch) -> None:
    derived_for: list[int] = []

    def derive(*arguments: object) -> TrafficKey:
        derived_for.append(arguments[-1])  # type: ignore[arg-type]
        return derive_traffic_key(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(opening, "derive_traffic_key", derive)
    receiver = inbound()
    for sequence in (2**32 - 1, 7, *range(3, 400, 3)):
        cause_of(receiver, forged(SENDER, sequence))
        open_together(receiver, [forged(SENDER, sequence - n) for n in (2, 1, 0, 2)])
    assert derived_for == [SENDER]
    assert derived(receiver) == 0
    assert receiver.open(PACKET, SOURCE).sequence == 1  # and no forged number counts
    assert derived_for == [SENDER]


def test_what_is_derived_for_packets_that_do_not_open_is_bounded() -> None:
    receiver = inbound()
    receiver.set_roster(dict.fromkeys(range(2 * UNPROVEN_AT_MOST), SOURCE))
    for sender in range(2 * UNPROVEN_AT_MOST):
        cause_of(receiver, forged(sender, 1))
    [epoch] = receiver._epochs.values()
    assert [*epoch.unproven] == [*range(UNPROVEN_AT_MOST, 2 * UNPROVEN_AT_MOST)]
    for sender in (0, 2 * UNPROVEN_AT_MOST - 1):
        assert receiver.open(outbound(sender=sender).seal(b"", 1, 2), SOURCE).sender_id == sender
    assert len(epoch.unproven) == UNPROVEN_AT_MOST - 2
    assert derived(receiver) == 2


# ---- epochs and roster


def test_both_epochs_of_a_rollover_open() -> None:
    receiver = inbound()
    receiver.install(EPOCH + 1, OTHER_KEY)
    assert receiver.epochs == (EPOCH, EPOCH + 1)
    assert receiver.open(PACKET, SOURCE).epoch == EPOCH
    assert receiver.open(outbound(epoch=EPOCH + 1, key=OTHER_KEY).seal(b"", 1, 2), SOURCE).epoch == EPOCH + 1


def test_a_dropped_epoch_opens_no_more_and_does_not_come_back() -> None:
    receiver = inbound()
    receiver.open(PACKET, SOURCE)
    receiver.drop(EPOCH)
    assert receiver.epochs == ()
    assert cause_of(receiver, PACKET) == "unknown-epoch"
    with pytest.raises(ValueError, match="dropped"):
        receiver.install(EPOCH, KEY)  # else the packet would open a second time
    receiver.drop(EPOCH)
    receiver.install(EPOCH + 1, KEY)


def test_installing_again_keeps_the_window() -> None:
    receiver = inbound()
    receiver.open(PACKET, SOURCE)
    receiver.install(EPOCH, KEY)
    assert cause_of(receiver, PACKET) == "replay"


@pytest.mark.parametrize(("epoch", "key"), [(EPOCH + EPOCH_TAGS, KEY), (EPOCH, OTHER_KEY)])
def test_colliding_epochs_are_our_bug(epoch: int, key: object) -> None:
    with pytest.raises(ValueError, match="collides"):
        inbound().install(epoch, key)  # type: ignore[arg-type]


def test_who_left_the_roster_is_not_heard() -> None:
    receiver = inbound()
    receiver.open(PACKET, SOURCE)
    receiver.set_roster({})
    assert cause_of(receiver, PACKET) == "unknown-sender"


def test_who_moved_is_heard_from_there_only() -> None:
    sender, receiver = outbound(), inbound()
    receiver.open(sender.seal(b"", 1, 2), SOURCE)
    assert cause_of(receiver, sender.seal(b"", 1, 2), "198.18.0.6") == "wrong-source"
    receiver.set_roster({SENDER: "198.18.0.6"})
    assert cause_of(receiver, sender.seal(b"", 1, 2)) == "wrong-source"
    assert receiver.open(sender.seal(b"moved", 1, 2), "198.18.0.6").payload == b"moved"


def test_who_has_become_our_own_is_not_heard() -> None:
    sender, receiver = outbound(), inbound()
    receiver.open(sender.seal(b"", 1, 2), SOURCE)
    receiver.set_roster({SENDER: SOURCE}, own=[SENDER])
    assert cause_of(receiver, sender.seal(b"", 1, 2)) == "own"


def test_the_window_outlives_a_change_of_the_roster() -> None:
    receiver = inbound()
    receiver.open(PACKET, SOURCE)
    receiver.set_roster({SENDER: SOURCE, 9: SOURCE})
    assert cause_of(receiver, PACKET) == "replay"


def test_packets_framed_each_in_its_own_way_are_all_read() -> None:
    receiver, sender = inbound(), outbound()
    parts = [(b"ab", 1, 2), (b"cd", 1, 2), (b"cd", 3, 2), (b"c", 3, 2), (bytes(5), 3, 2), (b"ab", 1, 2)]
    opened = [receiver.open(sender.seal(*part), SOURCE) for part in parts]
    assert [(each.payload, each.source_port, each.destination_port) for each in opened] == parts


def test_a_roster_is_a_copy() -> None:
    roster = {SENDER: SOURCE}
    receiver = inbound()
    receiver.set_roster(roster)
    roster.clear()
    assert receiver.open(PACKET, SOURCE).payload == b"hello"


def test_a_window_of_less_than_64_is_our_bug() -> None:
    with pytest.raises(ValueError, match="64"):
        InboundAssociations(DOMAIN, GROUP_ID, suite_named("aes-256-gcm"), 63)


def test_epochs_come_and_go_while_another_thread_opens() -> None:
    receiver, done = inbound(), threading.Event()

    def change() -> None:
        for later in range(1, 300):
            receiver.install(EPOCH + later, KEY)
            receiver.set_roster({SENDER: SOURCE, SENDER + later: SOURCE})
            receiver.drop(EPOCH + later)
        done.set()

    changing = threading.Thread(target=change)
    changing.start()
    sender, opened = outbound(), 0
    while not done.is_set() or not opened:
        receiver.open(sender.seal(b"x", 1, 2), SOURCE)
        opened += len(open_together(receiver, [sender.seal(b"x", 1, 2)]).runs)
    changing.join()
    assert receiver.counters()["opened"] == 2 * opened
    assert receiver.epochs == (EPOCH,)
