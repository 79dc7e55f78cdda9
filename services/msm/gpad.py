"""Which Authorizer may key which addresses on this host, and whom it asks: RFC 5374's GPAD (section 4.1.3).

It is the operator's list, never an announcement's word. A conference is at home at the Authorizer that its announcement
names. Where a line says `through`, an Authorizer of this host's own domain, a subordinate of that one, serves it here:
registrations, repairs and records go there, and associations, updates and beacons come from there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mcsa.addresses import is_canonical
from mcsa.errors import Refused, Rejected
from mcsa.identity import SpiffeId


@dataclass(frozen=True, slots=True)
class Accepted:
    """One line: this Authorizer (a pattern over SPIFFE IDs) may key groups in this network, or `through` another."""

    authorizer: str
    network: str
    through: str = ""

    def fits(self, authorizer: str, address: str) -> bool:
        """Whether the line is about this Authorizer and address ("" for any)."""
        if not fnmatchcase(authorizer, self.authorizer):
            return False
        return not address or ipaddress.ip_address(address) in ipaddress.ip_network(self.network)


class Gpad:
    """The lines, of which the first that fits counts."""

    def __init__(self, lines: Sequence[Accepted]) -> None:
        self._lines = tuple(lines)

    def serving(self, authorizer: str, address: str = "") -> str:
        """The Authorizer to ask for groups at this address ("" for any) of conferences at home at `authorizer`.

        Raises `Refused("authorizer")` where the host accepts no keys of it there, `Refused("address")` where that is
        no address.
        """
        _check_address(address)
        for line in self._lines:
            if _is_authorizer(authorizer) and line.fits(authorizer, address):
                return line.through or authorizer
        sentence = (
            f"this host accepts no keys for {address or 'any group'} from {authorizer or 'nobody'}; see `accepts`"
        )
        raise Refused("authorizer", "gpad", sentence)

    def serving_all(self, authorizer: str, addresses: Iterable[str]) -> str:
        """The same for all groups of a conference: one Authorizer, or `Refused`."""
        serving = {self.serving(authorizer, address) for address in addresses} or {self.serving(authorizer)}
        if len(serving) > 1:
            sentence = f"groups of one conference would be served by {' and '.join(sorted(serving))}; see `accepts`"
            raise Refused("authorizer", "gpad", sentence)
        return serving.pop()


def _check_address(address: str) -> None:
    """It is compared, and handed to programs, as text: there is one for each address."""
    if address and not is_canonical(address):
        raise Refused("address", "malformed", f"'{address[:60]}' is no address of a group")


def _is_authorizer(name: str) -> bool:
    try:
        return SpiffeId.parse(name).kind == "authorizer"
    except Rejected:
        return False
