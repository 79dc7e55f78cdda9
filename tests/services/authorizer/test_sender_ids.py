"""Sender IDs: each once, a distance after a take-over, and a new beginning only where none is left."""

from services.authorizer.sender_ids import SKIPPED, SenderIds

LARGE = range(1, 1 << 20)


def test_each_is_given_once() -> None:
    ids = SenderIds(LARGE)
    assert [ids.give(), ids.give(256), ids.give()] == [1, 2, 258]


def test_a_new_process_leaves_out_as_many_as_may_have_been_given_and_a_small_range_lasts_for_many() -> None:
    large, small = SenderIds(LARGE), SenderIds(range(100, 228))
    large.skip()
    small.skip()
    assert large.give() == 1 + SKIPPED
    assert small.give() == 102


def test_it_is_known_when_they_do_not_suffice() -> None:
    ids = SenderIds(range(1, 11))
    assert not ids.lacks(10)
    ids.give()
    assert ids.lacks(10)


def test_a_new_beginning_is_past_all_that_was_told() -> None:
    ids = SenderIds(LARGE)
    ids.begin_anew(told=5_000)
    assert ids.give() == 5_000 + SKIPPED


def test_a_new_beginning_starts_over_only_where_they_have_run_out() -> None:
    ids = SenderIds(LARGE)
    ids.begin_anew(told=(1 << 20) - 2 * SKIPPED)
    assert ids.give() == (1 << 20) - SKIPPED
    ids.begin_anew(told=0)
    assert ids.give() == 1
