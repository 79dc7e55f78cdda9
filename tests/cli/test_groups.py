"""What `mcsa groups` says became of packets."""

from __future__ import annotations

from mcsa.cli.groups import dropped


def test_what_was_lost_is_told_the_most_frequent_first() -> None:
    counters = {"sent": 9, "opened": 7, "own": 9, "held-then-opened": 1, "replay": 2, "overrun": 30, "integrity": 0}
    assert dropped(counters) == "30 overrun, 2 replay"


def test_a_cause_that_nobody_thought_of_is_told_too() -> None:
    assert dropped({"unsent.network": 1, "opened": 2}) == "1 unsent.network"
    assert dropped({"opened": 2}) == "none"


def test_a_packet_that_waited_for_its_epoch_is_lost_once_or_not_at_all() -> None:
    counters = {"opened": 2, "unknown-epoch": 5, "held-then-opened": 2, "held-too-long": 1, "held-then-rejected": 1}
    assert dropped(counters) == "3 unknown-epoch"
    assert dropped({"opened": 2, "unknown-epoch": 2, "held-then-opened": 2}) == "none"
