"""The hosts that send to one group without being members of it (paper, section 2.3.1, note 2). Sans-I/O.

Each has a sender ID, given like a member's and never again; a place in the roster, which says that it is no member; a
lease. What it has not: a group key, an update key, a place in the key management protocol. So nothing is replaced when
it comes or goes: what it has opens nothing, and once it is off the roster members drop what it sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mcsa.v1.authorizer_log_pb2 import MemberRecord
from services.authorizer.members import Member


class SendOnlyHosts:
    """By host, in the order in which they came."""

    def __init__(self) -> None:
        self._hosts: dict[str, Member] = {}

    def __len__(self) -> int:
        return len(self._hosts)

    def __contains__(self, host: str) -> bool:
        return host in self._hosts

    def __iter__(self) -> Iterator[Member]:
        return iter(self._hosts.values())

    def get(self, host: str) -> Member | None:
        """What is known of one."""
        return self._hosts.get(host)

    def put(self, sender: Member) -> None:
        """Adds one, or takes it for what was known of this host."""
        self._hosts.pop(sender.host, None)
        self._hosts[sender.host] = sender

    def remove(self, hosts: Iterable[str]) -> list[int]:
        """Takes hosts off, those that are there; returns their sender IDs."""
        gone = [self._hosts.pop(host) for host in hosts if host in self._hosts]
        return [sender.sender_id for sender in gone if sender.sender_id is not None]

    def of_user(self, user: str, host: str | None = None) -> list[str]:
        """The hosts that send for this user: all, or that one."""
        return [each.host for each in self if user in each.users and host in (None, each.host)]

    def renew(self, host: str, sender_id: int, lease_ends_at: float) -> bool:
        """It is still there; False where it isn't known under this sender ID."""
        sender = self._hosts.get(host)
        if sender is None or sender.sender_id != sender_id:
            return False
        sender.lease_ends_at = lease_ends_at
        return True

    def lapsed(self, now: float) -> list[str]:
        """The hosts whose lease has ended."""
        return [sender.host for sender in self if sender.lease_ends_at <= now]

    # ---- written down

    def records(self) -> list[MemberRecord]:
        """All of it, but for the leases, which begin anew with each process."""
        return [record_of(sender) for sender in self]

    def take(self, records: Iterable[MemberRecord], lease_ends_at: float) -> list[Member]:
        """What `records` gave, or some of it; returns them."""
        taken = [
            Member(each.host, each.address, each.sender_id, set(each.users), lease_ends_at)  # copies, no references
            for each in records
        ]
        for sender in taken:
            self.put(sender)
        return taken


def record_of(member: Member, source_key: bytes = b"") -> MemberRecord:
    """One host, a member or not, as it is written down."""
    return MemberRecord(
        host=member.host,
        address=member.address,
        sender_id=member.sender_id,
        users=sorted(member.users),
        source_key=source_key,
    )
