"""Domains of real processes need network namespaces."""

from __future__ import annotations

import pytest

from mcsa.laboratory.kind import kind
from tests.judges import lacking


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    if kind().name != "namespaces":
        lacking(f"network namespaces: {kind().reason}")
