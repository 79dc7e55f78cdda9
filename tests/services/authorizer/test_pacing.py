"""How updates are spread over time on the multicast."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from mcsa.endpoint import Count
from mcsa.update_parts import BODY_MAX, UPDATE_MAX, split_update
from services.authorizer import pacing
from services.authorizer.events import SendToGroup
from services.authorizer.pacing import AT_ONCE, PAUSE, PacedUpdates
from services.msm.held import HOLD_FOR

GROUP, OTHER, EPOCH = bytes(16), b"o" * 16, 5


def sent(paced: PacedUpdates, began: list[object], now: float = 0.0) -> list[tuple[float, SendToGroup]]:
    """What goes out until nothing waits, with the times."""
    found = [(now, effect) for effect in began if isinstance(effect, SendToGroup)]
    while (at := paced.wake_at()) is not None:
        assert at >= now
        now = at
        found += [(now, effect) for effect in paced.woken(now) if isinstance(effect, SendToGroup)]
    return found


def test_a_small_update_goes_at_once_and_twice_more():
    paced = PacedUpdates()
    found = sent(paced, paced.begin(GROUP, EPOCH, 1, b"small", 0.0))
    (datagram,) = split_update(1, b"small")
    assert found == [(at, SendToGroup(GROUP, EPOCH, datagram)) for at in (0.0, 0.05, 0.15)]


def test_the_largest_goes_a_few_at_a_time_three_times_in_order_while_packets_are_held():
    paced, update = PacedUpdates(), bytes(range(256)) * 1024
    found = sent(paced, paced.begin(GROUP, EPOCH, 1, update, 0.0))
    assert [effect.payload for _, effect in found] == [*split_update(1, update)] * 3
    times = sorted(Counter(at for at, _ in found).items())
    assert max(amount for _, amount in times) <= AT_ONCE
    assert min(later - earlier for (earlier, _), (later, _) in pairwise(times)) >= PAUSE - 1e-9
    assert times[-1][0] < HOLD_FOR


def test_a_later_update_waits_for_the_one_before_it_and_not_for_its_repeats():
    paced, update = PacedUpdates(), bytes(20 * BODY_MAX)
    began = paced.begin(GROUP, EPOCH, 1, update, 0.0) + paced.begin(GROUP, EPOCH + 1, 2, b"next", 0.001)
    found = sent(paced, began, 0.001)
    epochs = [effect.epoch for _, effect in found]
    assert epochs[:20] == [EPOCH] * 20 and epochs[20] == EPOCH + 1 and len(epochs) == 63


def test_groups_do_not_wait_for_one_another():
    paced = PacedUpdates()
    paced.begin(GROUP, EPOCH, 1, bytes(UPDATE_MAX), 0.0)
    assert len(paced.begin(OTHER, EPOCH, 1, b"small", 0.0)) == 1


def test_an_epoch_is_pending_until_all_is_said():
    paced = PacedUpdates()
    began = paced.begin(GROUP, EPOCH, 1, b"small", 0.0)
    assert paced.pending(GROUP, EPOCH) and not paced.pending(GROUP, EPOCH + 1) and not paced.pending(OTHER, EPOCH)
    sent(paced, began)
    assert not paced.pending(GROUP, EPOCH)


def test_a_group_that_ended_is_sent_nothing():
    paced = PacedUpdates()
    paced.begin(GROUP, EPOCH, 1, bytes(UPDATE_MAX), 0.0)
    paced.end(GROUP)
    paced.end(OTHER)
    assert paced.woken(1.0) == [] and paced.wake_at() is None


def test_what_is_too_large_is_left_to_the_bus_and_counted():
    paced = PacedUpdates()
    assert paced.begin(GROUP, EPOCH, 1, bytes(UPDATE_MAX + 1), 0.0) == [Count("multicast.too-large")]
    assert paced.wake_at() is None


def test_what_comes_faster_than_it_can_be_told_is_left_to_the_bus_and_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pacing, "WAITING_MAX", 100)
    paced, update = PacedUpdates(), bytes(30 * BODY_MAX)
    told = [paced.begin(GROUP, EPOCH, number, update, 0.0) for number in range(1, 6)]
    assert [effects == [Count("multicast.behind")] for effects in told] == [False, False, True, True, True]
    assert len(sent(paced, told[0])) == 2 * 3 * 30
