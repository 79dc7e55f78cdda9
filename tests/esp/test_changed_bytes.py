"""Every byte of a packet changed, one at a time: it never opens, it is counted, and it does no harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from mcsa.errors import Rejected
from mcsa.esp.inbound import InboundAssociations
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.slab import HEADER_SIZE
from mcsa.esp.spi import SENDER_ID_LIMIT, split_spi
from mcsa.esp.wire import parse_ip, parse_udp
from tests.esp.parts import SENDER, SOURCE, SUITES, inbound, open_together, outbound

HEARD = range(1, 400, 2)  # sequence numbers that opened before anything is forged
LATE = range(2, 400, 2)  # those that are still to come, in the window
Opening = Callable[[InboundAssociations, bytes], str]


def alone(receiver: InboundAssociations, packet: bytes) -> str:
    """The cause of rejection, or "opened"."""
    try:
        receiver.open(packet, SOURCE)
    except Rejected as rejected:
        return rejected.cause
    return "opened"


def together(receiver: InboundAssociations, packet: bytes) -> str:
    """The same by way of a batch."""
    batch = open_together(receiver, [packet])
    return batch.rejected[0] if batch.rejected else "opened"


ways = pytest.mark.parametrize("way", [alone, together])
suites = pytest.mark.parametrize("suite", SUITES)


def changes(packet: bytes) -> Iterator[tuple[int, bytes]]:
    """The packet with one byte changed, and which: in the header to all other values, elsewhere each bit."""
    for place in range(len(packet)):
        values = range(1, 256) if place < HEADER_SIZE else [1 << bit for bit in range(8)]
        for value in values:
            yield place, packet[:place] + bytes((packet[place] ^ value,)) + packet[place + 1 :]


def expected(packet: bytes, original: bytes, senders: Mapping[int, str]) -> str:
    """By which check it has to be stopped."""
    tag, sender_id = split_spi(int.from_bytes(packet[:4], "big"))
    if sender_id not in senders or tag == 0:
        return "unknown-sender"
    if tag != split_spi(int.from_bytes(original[:4], "big"))[0]:
        return "unknown-epoch"
    sequence = int.from_bytes(packet[4:8], "big")
    if packet[:4] == original[:4] and (sequence == 0 or sequence in HEARD):
        return "replay"
    return "replay" if sequence == 0 else "integrity"


def prepared(suite: str, senders: Mapping[int, str]) -> tuple[InboundAssociations, list[bytes], OutboundAssociation]:
    """A receiver that heard every second packet, all packets by sequence number, and their sender."""
    receiver, sender = inbound(suite), outbound(suite)
    receiver.set_roster(senders)
    packets = [b"", *(sender.seal(b"hello", 5004, 5006) for _ in range(1, 400))]
    for number in HEARD:
        receiver.open(packets[number], SOURCE)
    return receiver, packets, sender


def check_unharmed(
    receiver: InboundAssociations, packets: list[bytes], sender: OutboundAssociation, way: Opening
) -> None:
    """What was heard is a replay still, what was not opens, the late ones and the next."""
    assert {way(receiver, packets[number]) for number in HEARD} == {"replay"}
    assert {way(receiver, packets[number]) for number in LATE} == {"opened"}
    assert way(receiver, sender.seal(b"next", 5004, 5006)) == "opened"


ONE = {SENDER: SOURCE}
EVERYBODY = dict.fromkeys(range(0, SENDER_ID_LIMIT), SOURCE)


@suites
@ways
@pytest.mark.parametrize("senders", [ONE, EVERYBODY], ids=["one sender", "every sender ID in the roster"])
def test_a_changed_byte_never_opens_is_counted_and_does_no_harm(
    suite: str, way: Opening, senders: Mapping[int, str]
) -> None:
    receiver, packets, sender = prepared(suite, senders)
    good, counted = packets[LATE[-1]], receiver.counters()
    for place, changed in changes(good):
        cause = way(receiver, changed)
        assert cause == expected(changed, good, senders), f"byte {place}"
        counted[cause] += 1
    assert receiver.counters() == counted
    check_unharmed(receiver, packets, sender, way)


@suites
def test_one_changed_packet_in_a_batch_spoils_no_other(suite: str) -> None:
    for place in range(len(outbound(suite).seal(b"hello", 5004, 5006))):
        receiver, sender = inbound(suite), outbound(suite)
        packets = [sender.seal(b"hello", 5004, 5006) for _ in range(3)]
        broken = bytearray(packets[1])
        broken[place] ^= 0x10
        batch = open_together(receiver, [packets[0], bytes(broken), packets[2]])
        assert [payload for run in batch.runs for payload in run.payloads] == [b"hello"] * 2
        assert len(batch.rejected) == 1
        assert [run.first_sequence for run in batch.runs] == [1, 3]
        assert together(receiver, packets[1]) == "opened"


@suites
@ways
def test_truncated_and_lengthened_packets_do_not_open(suite: str, way: Opening) -> None:
    receiver, packets, sender = prepared(suite, ONE)
    good = packets[LATE[-1]]
    for size in range(1, len(good)):
        cut = way(receiver, good[:size])
        assert cut == ("short" if size < 44 else "integrity")  # 44: header 16, UDP 8, trailer 2, padding 2, ICV 16
    for more in (1, 2, 4, 100, 60_000):
        assert way(receiver, good + bytes(more)) == "integrity"
    check_unharmed(receiver, packets, sender, way)


# ---- what is around the packet


def test_a_changed_ip_header_leads_nowhere_else() -> None:
    """Of protocol 50 a raw socket hands over the header; nothing in it may move what is opened, but its own length."""
    packet = outbound().seal(b"hello", 5004, 5006)
    header = bytes.fromhex("4500 0000 0000 0000 0132 0000 c6120005 efff0102")
    for place in range(20):
        for value in range(1, 256):
            datagram = bytearray(header + packet)
            datagram[place] ^= value
            try:
                found = bytes(parse_ip(memoryview(datagram)))
            except Rejected as rejected:
                assert rejected.cause in ("short", "non-esp")
                continue
            cause = alone(inbound(), found)
            assert cause == "opened" if found == packet else cause != "opened"
            assert (found == packet) == (place not in (0, 9))


def test_a_udp_payload_is_the_packet_a_keepalive_or_nothing() -> None:
    packet = outbound().seal(b"hello", 5004, 5006)
    for place, changed in changes(packet):
        found = parse_udp(memoryview(changed))
        assert found is not None and alone(inbound(), bytes(found)) != "opened", f"byte {place}"
    assert parse_udp(memoryview(b"\xff")) is None
    with pytest.raises(Rejected, match="non-esp"):
        parse_udp(memoryview(bytes(4) + packet))
