"""Fixtures for everybody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mcsa.laboratory.kind import inside_user_namespace, kind
from mcsa.laboratory.namespaces import DEMO_REFLECTING, Laboratory
from tests.judges import lacking, require_program
from tests.requirements_report import Report
from tests.world import World


def pytest_configure(config: pytest.Config) -> None:
    """Requirements are told after a full run."""
    config.pluginmanager.register(Report(), "requirements")


@pytest.fixture
def world() -> World:
    """A domain with an authority of its own."""
    return World()


@pytest.fixture(scope="module")
def laboratory_of_module() -> Iterator[Laboratory]:
    """The demo's hosts, in network namespaces, one laboratory for a module's tests."""
    found = kind()
    if found.name == "loopback" or (found.name == "user-namespaces" and not inside_user_namespace()):
        lacking(f"this test needs network namespaces: run it as root ({found.reason})")
    require_program("nft")
    with Laboratory(reflecting=DEMO_REFLECTING) as made:
        yield made


@pytest.fixture
def laboratory(laboratory_of_module: Laboratory) -> Iterator[Laboratory]:
    """The module's laboratory, with a whole network at the start of each test."""
    laboratory_of_module.faults.clear()
    yield laboratory_of_module
    laboratory_of_module.faults.clear()
