"""Fixtures for everybody."""

from __future__ import annotations

import pytest

from tests.world import World


@pytest.fixture
def world() -> World:
    """A domain with an authority of its own."""
    return World()
