"""Packets whose source is still to be authenticated: the window waits for that."""

from __future__ import annotations

import pytest

from mcsa.errors import Rejected
from mcsa.esp.outbound import OutboundAssociation
from tests.esp.parts import EPOCH, SENDER, SOURCE, inbound, outbound


def packets(association: OutboundAssociation, count: int) -> list[bytes]:
    return [association.seal(bytes([number % 256]), 5004, 5006) for number in range(count)]


def test_a_packet_counts_once_its_source_is_proved():
    receiver, (first, second) = inbound(), packets(outbound(), 2)
    unproved = receiver.open_unproved(first, SOURCE)
    assert unproved.opened == (SENDER, EPOCH, 1, 5004, 5006, b"\x00")
    again = receiver.open_unproved(first, SOURCE)  # nothing has moved
    assert unproved.strike_out()
    assert not again.strike_out()
    with pytest.raises(Rejected, match="replay"):
        receiver.open_unproved(first, SOURCE)
    assert receiver.open_unproved(second, SOURCE).strike_out()


def test_what_is_never_proved_burns_no_number():
    receiver, sealed = inbound(), packets(outbound(), 5_000)
    receiver.open_unproved(sealed[-1], SOURCE)
    assert receiver.open_unproved(sealed[0], SOURCE).strike_out()


def test_two_that_wait_have_one_window():
    receiver, (first, second) = inbound(), packets(outbound(), 2)
    waiting = [receiver.open_unproved(packet, SOURCE) for packet in (first, second)]
    assert [each.strike_out() for each in waiting] == [True, True]
    for packet in (first, second):
        with pytest.raises(Rejected, match="replay"):
            receiver.open_unproved(packet, SOURCE)


def test_by_open_the_same_number_is_burnt():
    """So the test of never proved ones can fail."""
    receiver, sealed = inbound(), packets(outbound(), 5_000)
    receiver.open(sealed[-1], SOURCE)
    with pytest.raises(Rejected, match="replay"):
        receiver.open_unproved(sealed[0], SOURCE)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda raw: raw[:20], "short"),
        (lambda raw: raw[:3] + b"\x09" + raw[4:], "unknown-sender"),
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "integrity"),
        (lambda raw: raw[:7] + b"\x63" + raw[8:], "integrity"),
    ],
)
def test_the_checks_of_every_packet_come_first(change: object, cause: str):
    receiver, (packet,) = inbound(), packets(outbound(), 1)
    with pytest.raises(Rejected, match=cause):
        receiver.open_unproved(change(packet), SOURCE)  # type: ignore[operator]
    assert receiver.counters()[cause] == 1
    with pytest.raises(Rejected, match="wrong-source"):
        receiver.open_unproved(packet, "198.18.0.9")
