"""Source keys of a group's senders, by sender ID: beside the members, of which most groups need none of this."""

from __future__ import annotations

from collections.abc import Mapping


class SourceKeys(dict[int, bytes]):
    """What the roster says of each sender."""

    def __init__(self, kept: Mapping[int, bytes] | None = None) -> None:
        super().__init__(kept or {})

    def of(self, sender_id: int | None) -> bytes:
        """Empty where there is none."""
        return b"" if sender_id is None else self.get(sender_id, b"")

    def give(self, sender_id: int | None, key: bytes) -> None:
        """A sender that came."""
        if sender_id is not None and key:
            self[sender_id] = key
