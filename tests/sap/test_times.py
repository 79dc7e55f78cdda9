"""When a session takes place next, as its t=, r= and z= lines say."""

from __future__ import annotations

from mcsa.sap.times import Adjustment, Occurrence, Period, Repeat, next_occurrence, span

NOW = 1_800_000_000
HOUR, DAY, WEEK = 3_600, 86_400, 604_800


def test_a_session_without_times_is_always_there():
    assert next_occurrence([], [], NOW) is None
    assert next_occurrence([Period()], [], NOW) is None
    assert span([]) == (0, 0) == span([Period(), Period(NOW, NOW + 1)])
    assert span([Period(NOW, NOW + 9), Period(NOW - 1, NOW)]) == (NOW - 1, NOW + 9)


def test_one_that_is_on_or_to_come_or_over():
    period = Period(NOW, NOW + HOUR)
    assert next_occurrence([period], [], NOW - DAY) == Occurrence(NOW, NOW + HOUR)
    assert next_occurrence([period], [], NOW + 9) == Occurrence(NOW, NOW + HOUR)
    assert next_occurrence([period], [], NOW + HOUR) is None
    assert next_occurrence([Period(NOW, 0)], [], NOW + WEEK) == Occurrence(NOW, 0)


def test_the_example_of_the_rfc():
    """RFC 8866, section 5.10: Mondays at 10 and Tuesdays at 11, for three months."""
    period = Period(NOW, NOW + 13 * WEEK, (Repeat(WEEK, HOUR, (0, 25 * HOUR)),))
    expected = [start + week * WEEK for week in range(13) for start in (NOW, NOW + 25 * HOUR)]
    found, at = [], NOW - DAY
    while (occurrence := next_occurrence([period], [], at)) is not None:
        assert occurrence.end - occurrence.start == HOUR
        found.append(occurrence.start)
        at = occurrence.end
    assert found == expected


def test_summer_time_shifts_what_comes_after_it():
    period = Period(NOW, 0, (Repeat(DAY, HOUR),))
    summer = [Adjustment(NOW + 10 * DAY, -HOUR), Adjustment(NOW + 20 * DAY, 0)]
    for day, shift in ((9, 0), (10, -HOUR), (19, -HOUR), (20, 0), (21, 0)):
        expected = NOW + day * DAY + shift
        assert next_occurrence([period], summer, expected - 1) == Occurrence(expected, expected + HOUR)
    earlier = [Adjustment(NOW + 10 * DAY, HOUR)]
    late = NOW + 10 * DAY + HOUR
    assert next_occurrence([period], earlier, late - 1) == Occurrence(late, late + HOUR)


def test_the_last_one_is_cut_by_the_end():
    period = Period(NOW, NOW + DAY + 60, (Repeat(DAY, HOUR),))
    assert next_occurrence([period], [], NOW + HOUR) == Occurrence(NOW + DAY, NOW + DAY + 60)
    assert next_occurrence([period], [], NOW + DAY + 60) is None


def test_the_worst_that_a_liar_can_say_takes_no_time():
    repeats = tuple(Repeat(1, 1, tuple(range(32))) for _ in range(1))
    periods = [Period(1, 0, repeats)] * 16
    liar = [Adjustment(1, DAY)] * 16
    # some hundred thousand steps at most: one for each second since 1970 would never come to an end
    found = next_occurrence(periods, liar, NOW)
    assert found is not None and NOW < found.end <= NOW + DAY
