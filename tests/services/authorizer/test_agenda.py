"""What is due when, among many."""

from __future__ import annotations

import random

from services.authorizer.agenda import Agenda


def test_what_is_due_comes_in_order_once_and_with_its_last_time():
    agenda: Agenda[str] = Agenda()
    assert agenda.next_at() is None and agenda.due(1e9) == []
    for what, at in (("a", 5.0), ("b", 3.0), ("c", 3.0), ("a", 4.0), ("d", 1.0)):
        agenda.set(what, at)
    agenda.remove("d")
    agenda.remove("nobody")
    assert agenda.next_at() == 3.0
    assert agenda.due(4.0) == ["b", "c", "a"]
    assert agenda.due(9.0) == [] and agenda.next_at() is None


def test_it_is_right_and_stays_small_whatever_is_set_and_removed():
    draw = random.Random(1)
    agenda: Agenda[int] = Agenda()
    times: dict[int, float] = {}
    for now in range(3_000):
        what, at = draw.randrange(50), float(now + draw.randrange(100))
        if draw.random() < 0.1:
            agenda.remove(what)
            times.pop(what, None)
        else:
            agenda.set(what, at)
            times[what] = at
        assert agenda.next_at() == min(times.values(), default=None)
        if now % 7 == 0:
            due = {key for key, due_at in times.items() if due_at <= now}
            assert set(agenda.due(now)) == due
            times = {key: due_at for key, due_at in times.items() if key not in due}
        assert len(agenda._heap) < 250
