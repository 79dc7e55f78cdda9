"""What the plug-ins of flat groups have in common."""

from __future__ import annotations

from typing import ClassVar

from mcsa.gkm.flat.authority import FlatAuthority
from mcsa.gkm.flat.member import FlatCandidate
from mcsa.keys import Random

MEMBERS_AT_MOST = 4_000  # where one leaves, 80 bytes for each of the others: 320 kB of an envelope's 512 KiB


class FlatScheme:
    """See `interface.Scheme`; name, title, promises and who distributes are the plug-in's own."""

    authority: ClassVar[type[FlatAuthority]] = FlatAuthority
    members_at_most: int | None = MEMBERS_AT_MOST
    subgroups = False

    def create(self, random: Random) -> FlatAuthority:
        """A new group."""
        return self.authority.create(random)

    def restore(self, snapshot: bytes, random: Random) -> FlatAuthority:
        """A group as it was."""
        return self.authority.restore(snapshot, random)

    def begin(self, random: Random) -> FlatCandidate:
        """A new member."""
        return FlatCandidate(random)
