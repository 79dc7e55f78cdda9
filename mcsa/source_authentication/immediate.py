"""What senders have in common that send at once whatever is said."""

from __future__ import annotations

from collections.abc import Sequence

from mcsa.source_authentication.interface import Block, Content


class Immediate:
    """Holds nothing back, waits for nothing."""

    def unready(self, now: float) -> str:
        """It is ready."""
        return ""

    def take(self, contents: Sequence[Content], now: float) -> list[Block]:
        """All of it."""
        return [Block(contents)]

    def wake_at(self) -> float | None:
        """Never."""
        return None

    def woken(self, now: float) -> list[Block]:
        """Nothing."""
        return []
