"""MCSA: secure multicast conferencing. `mcsa.connect(...)` is the way in for applications; `mcsa.Refused` is what it
raises where something isn't allowed, or can't be: its `sentence` says why, and the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcsa.errors import Refused

if TYPE_CHECKING:
    from mcsa.sdk.conference import connect as connect

__version__ = "0.1.0"
__all__ = ["Refused", "__version__", "connect"]


def __getattr__(name: str) -> Any:
    """`connect`, without loading all it needs where only a part of the library is used."""
    if name == "connect":
        from mcsa.sdk.conference import connect

        return connect
    raise AttributeError(f"module 'mcsa' has no attribute '{name}'")


def __dir__() -> list[str]:
    """What there is for applications."""
    return __all__
