"""A subgroup's knowledge of senders in other subgroups: what its members were told, and what there is to tell."""

from __future__ import annotations

from mcsa.v1.types_pb2 import RosterEntry
from services.authorizer.room import Roster


class Distant(Roster):
    """What members were told; `wanted`, by sender ID, is how it should be (`subgroups.py`)."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: dict[int, RosterEntry] = {}

    @property
    def is_behind(self) -> bool:
        """The next flush has something to tell."""
        return {entry.sender_id: entry for entry in self.values()} != self.wanted

    def catch_up(self) -> tuple[list[RosterEntry], list[int]]:
        """Now it is as wanted; returns what is to be told: who was added or has changed, and who was removed."""
        removed = [entry.sender_id for entry in self.values() if entry.sender_id not in self.wanted]
        for sender_id in removed:
            self.drop(sender_id)
        added = [
            entry for entry in self.wanted.values() if entry.sender_id not in self or self[entry.sender_id] != entry
        ]
        for entry in added:
            self.put(entry)
        return added, removed

    def forget(self) -> None:
        """Nobody was told anything: there is nobody."""
        for entry in list(self.values()):
            self.drop(entry.sender_id)
