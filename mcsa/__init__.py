"""MCSA: secure multicast conferencing. `mcsa.connect(...)` is the way in for applications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcsa.sdk.conference import connect as connect

__version__ = "0.1.0"
__all__ = ["__version__", "connect"]


def __getattr__(name: str) -> Any:
    """`connect`, without loading all it needs where only a part of the library is used."""
    if name == "connect":
        from mcsa.sdk.conference import connect

        return connect
    raise AttributeError(f"module 'mcsa' has no attribute '{name}'")
