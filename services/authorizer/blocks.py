"""Which members of a group may serve joins, and which sender IDs they may give. Sans-I/O; a part of the group's state.

A block of sender IDs belongs to one distributor, and to one registration of it: whoever registers again, leaves, or was
caught at a lie loses it, and the key is replaced so that nobody is left in who was welcomed with it and not adopted.
(A distributor whose block is used up gets another one; it has no report left to make then.)
A block's sender IDs are never given again, used or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from mcsa.esp.spi import SENDER_ID_LIMIT
from mcsa.v1.authorizer_log_pb2 import DistributionBlock
from services.authorizer.members import Member

SENDER_IDS = 64  # in a block
DISTRIBUTORS = 3  # at once, where the scheme wants them appointed
GIVEN_BELOW = SENDER_ID_LIMIT // 2  # the rest is for members that register here: a group goes on without distributors


@dataclass(slots=True)
class Block:
    """The sender IDs of one distributor."""

    host: str
    first_sender_id: int
    sender_ids: int = SENDER_IDS
    given_in: int = 0  # number of the update with whose record it was stored
    used: set[int] = field(default_factory=set)

    def has(self, sender_id: int) -> bool:
        """It is one of them."""
        return self.first_sender_id <= sender_id < self.first_sender_id + self.sender_ids

    def record(self) -> DistributionBlock:
        """For the log."""
        return DistributionBlock(
            host=self.host,
            first_sender_id=self.first_sender_id,
            sender_ids=self.sender_ids,
            used=sorted(self.used),
        )


class Blocks:
    """Of one group. `distributors` as in `mcsa.gkm.Scheme`; `permitted` are patterns of hosts that may be one."""

    def __init__(self, distributors: str, permitted: Sequence[str]) -> None:
        self._distributors = distributors
        self._permitted = permitted
        self._of: dict[str, Block] = {}

    @property
    def possible(self) -> bool:
        """It is a scheme in which members welcome others, with or without the right to."""
        return self._distributors != "none"

    def permits(self, host: str) -> bool:
        """The operator lets this host be a distributor, in a scheme that has any."""
        return self.possible and any(fnmatchcase(host, pattern) for pattern in self._permitted)

    def of(self, host: str) -> Block | None:
        """A distributor's block; None for a host that isn't one."""
        return self._of.get(host)

    def forfeit(self, hosts: Iterable[str]) -> list[str]:
        """These have none any more; returns which of them had one."""
        return [host for host in dict.fromkeys(hosts) if self._of.pop(host, None) is not None]

    def blame(self, hosts: Iterable[str]) -> list[Block]:
        """These get none while they stay: an empty one takes the place."""
        empty = [Block(host, 0, sender_ids=0) for host in hosts]
        self._of.update({block.host: block for block in empty})
        return empty

    def appoint(self, candidates: Iterable[Member], before: Sequence[str], first: int, number: int) -> list[Block]:
        """Gives blocks to those candidates that may have one and have none: all of them, or as many as are to be
        appointed, those first that were distributors `before`, then those that have been members for longest.

        The blocks are of the sender IDs from `first` on, each after the other, as long as there are enough.
        """
        wanting = [m for m in candidates if m.sender_id is not None and m.host not in self._of and self.permits(m.host)]
        wanting.sort(key=lambda member: (member.host not in before, member.sender_id))
        if self._distributors == "appointed":
            appointed = sum(block.sender_ids > 0 and "/host/" in block.host for block in self._of.values())
            own = [member for member in wanting if not _is_authorizer(member)]
            # another domain's Authorizer is always one, since its hosts have nobody else
            wanting = [*filter(_is_authorizer, wanting), *own[: max(0, DISTRIBUTORS - appointed)]]
        given = []
        for member in wanting:
            if first + SENDER_IDS > GIVEN_BELOW:
                break
            given.append(Block(member.host, first, given_in=number))
            first += SENDER_IDS
        self._of.update({block.host: block for block in given})
        return given

    def use(self, sender_id: int) -> None:
        """A member with this sender ID was adopted; nothing where it is of no block."""
        for block in self._of.values():
            if block.has(sender_id):
                block.used.add(sender_id)

    # ---- the log

    def records(self) -> list[DistributionBlock]:
        """All of them."""
        return [block.record() for block in self._of.values()]

    def take(self, records: Iterable[DistributionBlock]) -> None:
        """As they were recorded."""
        for record in records:
            block = Block(record.host, record.first_sender_id, record.sender_ids, used=set(record.used))
            self._of[record.host] = block


def _is_authorizer(member: Member) -> bool:
    return "/authorizer/" in member.host
