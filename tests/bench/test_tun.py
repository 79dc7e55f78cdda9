"""`bench tun`: how a loss-free rate is found, and that its attempts count what they should, through the real driver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from bench.tun import ATTEMPTS, Attempt, loss_free, one_by_one
from bench.tunnels import HOSTS, Tunnel, secured_group
from mcsa.laboratory.kind import kind
from mcsa.laboratory.namespaces import Laboratory
from tests.judges import lacking, require_program

NOWHERE = cast(Tunnel, None)  # what is attempted here goes nowhere


def losing(lost: Callable[[int, int], int]) -> Callable[[Tunnel, int], Attempt]:
    """Attempts, of 1,000 packets each, that lose what is said of a step and its how manieth attempt."""
    tried: list[int] = []

    def attempt(_: Tunnel, step: int) -> Attempt:
        tried.append(step)
        return Attempt(step - 0.5, lost(step, tried.count(step)), 1_000)

    return attempt


@pytest.mark.parametrize(
    ("lost", "may_lose", "rate"),
    [
        (lambda step, _: step >= 40, 0.0, 29.5),
        (lambda step, attempt: attempt < ATTEMPTS, 0.0, 49.5),  # the machine was busy meanwhile
        (lambda step, _: 10 if step <= 30 else 11, 0.01, 29.5),
        (lambda step, _: 1, 0.0, 0.0),
        (lambda step, _: 0, 0.0, 49.5),
    ],
)
def test_the_highest_step_before_the_first_that_always_loses(
    lost: Callable[[int, int], int], may_lose: float, rate: float
) -> None:
    assert loss_free(NOWHERE, (10, 20, 30, 40, 50), losing(lost), may_lose) == rate


def test_packets_that_arrive_are_counted_and_those_that_do_not_too(tmp_path: Path) -> None:
    if kind().name == "loopback":
        lacking(f"the driver tun needs network namespaces: {kind().reason}")
    require_program("nft")
    with Laboratory(HOSTS) as laboratory, secured_group(laboratory, tmp_path) as tunnel:
        attempts = [one_by_one(tunnel, 1) for _ in range(3)]
        assert any(each.lost == 0 for each in attempts)
        assert {each.sent for each in attempts} == {800}
        laboratory.faults.drop_group(tunnel.destination)
        assert one_by_one(tunnel, 1).lost == 800
