from __future__ import annotations

import copy
import os
import pickle
import threading
from collections.abc import Sequence
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsa.esp.outbound import LAST_SEQUENCE, OutboundAssociation, SequenceExhausted, batch_limit, packet_size
from tests.esp.parts import SOURCE, SUITES, inbound, outbound, traffic_key

SOURCE_PORT, DESTINATION_PORT = 5004, 5006


def at(sequence: int) -> OutboundAssociation:
    """An association that gives this number next. There is no way to make one but by force."""
    made = outbound()
    made._numbers = count(sequence)
    return made


@pytest.mark.parametrize("suite", SUITES)
def test_the_layout_is_that_of_rfc_4106(suite: str) -> None:
    key, association = traffic_key(suite), outbound(suite)
    association.seal(b"first", SOURCE_PORT, DESTINATION_PORT)
    packet = association.seal(b"payload", SOURCE_PORT, DESTINATION_PORT)
    assert packet[:4] == key.spi.to_bytes(4, "big")
    assert packet[4:8] == (2).to_bytes(4, "big")
    assert packet[8:16] == (2).to_bytes(8, "big")  # the IV is the sequence number
    plaintext = key.cipher().decrypt(key.salt + packet[8:16], packet[16:], packet[:8])
    assert plaintext == bytes.fromhex("138c 138e 000f 0000") + b"payload" + bytes((1, 2, 3, 3, 17))
    assert len(packet) == packet_size(7)


def test_the_first_number_is_1() -> None:
    assert outbound().seal(b"", 1, 2)[4:8] == bytes((0, 0, 0, 1))


@settings(deadline=None)
@given(st.lists(st.sampled_from([0, 1, 2, 3, 160, 1_400]), max_size=150), st.booleans())
def test_batches_are_what_sealing_one_by_one_gives(sizes: list[int], before: bool) -> None:
    payloads = [bytes((n % 256,)) * size for n, size in enumerate(sizes)]
    together, apart = outbound(), outbound()
    for association in (together, apart):
        if before:
            association.seal(b"another one before", 7, 8)
    packets = []
    for batch in together.seal_batches(payloads, SOURCE_PORT, DESTINATION_PORT):
        assert len(batch.view) <= 65_507
        assert len(batch.view) % batch.segment_size == 0
        assert len(batch.view) // batch.segment_size <= 64
        packets += [
            bytes(batch.view[start : start + batch.segment_size])
            for start in range(0, len(batch.view), batch.segment_size)
        ]
    assert packets == [apart.seal(payload, SOURCE_PORT, DESTINATION_PORT) for payload in payloads]
    assert together.sealed == apart.sealed


def test_equal_payloads_share_a_batch() -> None:
    batches = [len(b.view) // b.segment_size for b in outbound().seal_batches([bytes(200)] * 130, 1, 2)]
    assert batches == [64, 64, 2]
    assert batch_limit(1_400) == 45
    assert batch_limit(65_000) == 1


def test_a_payload_that_no_datagram_carries_takes_no_number() -> None:
    association = outbound()
    with pytest.raises(ValueError, match="longer"):
        association.seal(bytes(65_463), 1, 2)
    with pytest.raises(ValueError, match="longer"):
        list(association.seal_batches([bytes(65_463)], 1, 2))
    assert association.sealed == 0
    assert len(association.seal(bytes(65_462), 1, 2)) <= 65_507


def test_a_nonce_never_repeats_whatever_threads_seal() -> None:
    association = outbound()
    packets: list[bytes] = []

    def seal_some() -> None:
        for _ in range(2_000):
            packets.append(association.seal(b"", 1, 2))

    threads = [threading.Thread(target=seal_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({packet[8:16] for packet in packets}) == 8_000
    assert association.sealed == 8_000


def test_senders_have_nonces_and_keys_of_their_own() -> None:
    first, second = outbound(sender=1).seal(b"x", 1, 2), outbound(sender=2).seal(b"x", 1, 2)
    assert first[8:16] == second[8:16]  # IVs alike, since both count from 1
    assert traffic_key(sender=1).reveal() != traffic_key(sender=2).reveal()
    assert first[16:] != second[16:]


def test_it_stops_before_the_number_wraps() -> None:
    association = at(LAST_SEQUENCE)
    assert association.seal(b"last", 1, 2)[4:8] == b"\xff\xff\xff\xff"
    for _ in range(2):
        with pytest.raises(SequenceExhausted):
            association.seal(b"one more", 1, 2)
    with pytest.raises(SequenceExhausted):
        list(association.seal_batches([b"one more"], 1, 2))


def test_a_batch_that_would_wrap_is_not_begun() -> None:
    association = at(LAST_SEQUENCE - 1)
    with pytest.raises(SequenceExhausted):
        list(association.seal_batches([b"x"] * 3, 1, 2))
    with pytest.raises(SequenceExhausted):
        association.seal(b"x", 1, 2)


def test_it_says_when_numbers_run_out() -> None:
    association = at(2**31 - 1)
    association.seal(b"", 1, 2)
    assert not association.nearly_exhausted
    association.seal(b"", 1, 2)
    assert association.nearly_exhausted


def test_it_can_be_neither_copied_nor_stored() -> None:
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="repeat"):
            attempt(outbound())


def test_a_forked_child_can_not_seal() -> None:
    association = outbound()
    child = os.fork()
    if child == 0:
        try:
            association.seal(b"x", 1, 2)
        except SequenceExhausted:
            os._exit(42)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert inbound().open(association.seal(b"the parent can", 1, 2), "198.18.0.5").sequence == 1


def test_what_has_to_know_its_number_is_told_it_first() -> None:
    association, receiver = outbound(), inbound()
    association.seal(b"one before", 1, 2)
    told: list[list[int]] = []

    def inside(numbers: Sequence[int]) -> list[tuple[bytes, int, int]]:
        told.append(list(numbers))
        return [(f"I am {number}".encode(), number, 7) for number in numbers]

    for sequence, batch in association.seal_numbered(3, inside):
        opened = receiver.open(batch.view, SOURCE)
        assert (opened.sequence, opened.source_port) == (sequence, sequence)
        assert opened.payload == f"I am {sequence}".encode()
    assert told == [[2, 3, 4]]
    assert association.seal(b"one after", 1, 2)[4:8] == (5).to_bytes(4, "big")


def test_numbers_that_nothing_was_made_of_are_not_given_again() -> None:
    association = outbound()
    with pytest.raises(ZeroDivisionError):
        list(association.seal_numbered(2, lambda numbers: [(b"", 1 // 0, 0)]))
    with pytest.raises(ValueError, match="1 payloads for 2 numbers"):
        list(association.seal_numbered(2, lambda numbers: [(b"", 1, 2)]))
    assert association.seal(b"", 1, 2)[4:8] == (5).to_bytes(4, "big")


def test_no_numbers_are_left_for_a_block() -> None:
    with pytest.raises(SequenceExhausted):
        list(at(LAST_SEQUENCE).seal_numbered(2, lambda numbers: [(b"", 1, 2)] * 2))


def test_numbered_packets_of_one_shape_are_sealed_together() -> None:
    association, receiver = outbound(), inbound()
    payloads = [(bytes([number]) * (10 if number < 70 else 20), 5, 6 + number // 69) for number in range(75)]
    found: list[tuple[int, bytes]] = []
    batches = list[tuple[int, int]]()
    for first, batch in association.seal_numbered(75, lambda numbers: payloads):
        count = len(batch.view) // batch.segment_size
        batches.append((first, count))
        for place in range(count):
            packet = bytes(batch.view[place * batch.segment_size : (place + 1) * batch.segment_size])
            opened = receiver.open(packet, SOURCE)
            found.append((opened.sequence, opened.payload))
    assert found == [(number + 1, payload) for number, (payload, _, _) in enumerate(payloads)]
    assert batches == [(1, 64), (65, 5), (70, 1), (71, 5)]


def test_who_seals_one_by_one_keeps_no_buffer() -> None:
    association = outbound()
    association.seal(b"x", 1, 2)
    assert "_slab" not in vars(association)
    [batch] = association.seal_batches([b"x", b"y"], 1, 2)
    assert vars(association)["_slab"].view.obj is batch.view.obj
