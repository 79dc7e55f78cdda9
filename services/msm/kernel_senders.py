"""Who may be heard in a group whose packets the kernel opens, and from where: the roster, both ways round. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mcsa.addresses import parse_address
from mcsa.path_control import SetRoster
from mcsa.xfrm.layout import Address


class KernelSenders:
    """Of one roster. Left out are this host's own sender IDs, and addresses that are none of the group's family."""

    def __init__(self, destination: Address, roster: SetRoster | None = None) -> None:
        self._addresses: dict[int, Address] = {}
        self._authorizer = None if roster is None else roster.authorizer
        if roster is not None:
            own = {roster.own, roster.own_relay}
            for sender_id, text in roster.addresses.items():
                try:
                    address = parse_address(text)
                except ValueError:  # the Authorizer's word; whoever it is can't be heard
                    continue
                if sender_id not in own and address.version == destination.version:
                    self._addresses[sender_id] = address
        # The Authorizer first, then the others as they came: the last one at an address stays.
        ordered = sorted(self._addresses, key=lambda sender_id: (sender_id != self._authorizer, sender_id))
        self._at = {str(self._addresses[sender_id]): sender_id for sender_id in ordered}

    def __iter__(self) -> Iterator[tuple[int, Address]]:
        return iter(self._addresses.items())

    def address_of(self, sender_id: int) -> Address | None:
        """Where the roster says that this one is; None for who may not be heard."""
        return self._addresses.get(sender_id)

    def sender_at(self, address: str) -> int | None:
        """Who speaks from there, the Authorizer aside, unless nobody else does. Where there are several, the one that
        came last: the kernel doesn't tell whose state opened a packet, only that its address was the state's."""
        return self._at.get(address)

    def is_authorizer(self, address: str) -> bool:
        """Whether the Authorizer's packets come from there."""
        found = None if self._authorizer is None else self._addresses.get(self._authorizer)
        return found is not None and str(found) == address
