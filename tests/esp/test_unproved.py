"""Packets whose source is still to be authenticated: the window waits for that."""

from __future__ import annotations

import pytest

from mcsa.errors import Rejected
from mcsa.esp.inbound import InboundAssociations
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.suite import suite_named
from tests.esp.parts import DOMAIN, EPOCH, GROUP_ID, KEY, SENDER, SOURCE, inbound, open_together, outbound


def unmoved() -> InboundAssociations:
    made = InboundAssociations(DOMAIN, GROUP_ID, suite_named("aes-256-gcm"), moves_windows=False)
    made.install(EPOCH, KEY)
    made.set_roster({SENDER: SOURCE})
    return made


def packets(association: OutboundAssociation, count: int) -> list[bytes]:
    return [association.seal(bytes([number % 256]) * 10, 5004, 5006) for number in range(count)]


def test_a_packet_counts_once_its_source_is_proved():
    receiver, (first, second) = unmoved(), packets(outbound(), 2)
    assert receiver.open(first, SOURCE)[:3] == (SENDER, EPOCH, 1)
    assert receiver.open(first, SOURCE)[:3] == (SENDER, EPOCH, 1)  # nothing has moved
    window = receiver.window_of(EPOCH, SENDER)
    assert window.take(1)
    assert not window.take(1)
    with pytest.raises(Rejected, match="replay"):
        receiver.open(first, SOURCE)
    assert receiver.open(second, SOURCE).sequence == 2
    assert receiver.window_of(EPOCH, SENDER) is window


def test_what_opens_together_counts_neither():
    receiver, sealed = unmoved(), packets(outbound(), 40)
    for _ in range(2):
        batch = open_together(receiver, sealed)
        assert sum(len(run.payloads) for run in batch.runs) == 40 and not batch.rejected
    window = receiver.window_of(EPOCH, SENDER)
    assert all(window.take(number) for number in range(1, 31))
    batch = open_together(receiver, sealed)
    assert batch.rejected == ["replay"] * 30
    assert sum(len(run.payloads) for run in batch.runs) == 10


def test_what_is_never_proved_burns_no_number():
    receiver, sealed = unmoved(), packets(outbound(), 5_000)
    receiver.open(sealed[-1], SOURCE)
    receiver.open(sealed[0], SOURCE)
    assert receiver.window_of(EPOCH, SENDER).take(1)


def test_where_windows_move_the_same_number_is_burnt():
    """So the test before can fail."""
    receiver, sealed = inbound(), packets(outbound(), 5_000)
    receiver.open(sealed[-1], SOURCE)
    with pytest.raises(Rejected, match="replay"):
        receiver.open(sealed[0], SOURCE)
