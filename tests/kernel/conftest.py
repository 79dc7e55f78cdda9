"""These tests run in the virtual machine only, by `make test-kernel`: the kernels that others run have no ESP."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mcsa.laboratory.namespaces import Laboratory
from tests.kernel.hosts import Group

_numbers = count(1)

MakeGroup = Callable[..., Group]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what is here, and only that, outside the virtual machine."""
    if "MCSA_KERNEL_TESTS" in os.environ:
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="needs a kernel with IPsec: make test-kernel"))


@pytest.fixture(scope="session")
def laboratory() -> Iterator[Laboratory]:
    """One for all: each test has a group of its own."""
    with Laboratory() as made:
        yield made


@pytest.fixture
def make_group(laboratory: Laboratory, tmp_path: Path) -> Iterator[MakeGroup]:
    """Makes a group at an address of its own, `version` 4 or 6, with what its policy is to say."""
    made: list[Group] = []

    def make(version: int = 4, **policy: Any) -> Group:
        number = next(_numbers)
        address = laboratory.plan.group(number) if version == 4 else laboratory.plan.group6(number)
        made.append(Group(laboratory, tmp_path, address, **policy))
        return made[-1]

    yield make
    for group in made:
        group.__exit__(None, None, None)
