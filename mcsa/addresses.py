"""Addresses as text, in the one form in which they are compared. Pure.

Rosters, descriptions and what a socket says of a datagram's source are compared as text, so whoever takes an address
from outside makes it canonical first: RFC 5952 for IPv6, without a scope (`%eth0`), which means something on one host
only. IPv4 addresses inside IPv6 (`::ffff:192.0.2.1`) are no addresses here: they have two texts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from mcsa.errors import Refused

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

SOURCE_SPECIFIC = ipaddress.IPv4Network("232.0.0.0/8")  # RFC 4607 section 1
SOURCE_SPECIFIC_OF = {4: "232.0.0.0", 6: "ff35::"}
"""An address of each family that stands for those with sources."""


def parse_address(text: str) -> IpAddress:
    """The address, a scope left out. `ValueError` where it is none, or an IPv4 address inside an IPv6 one."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError(f"{text} is an IPv4 address inside IPv6: write {address.ipv4_mapped}")
    return address


def canonical(text: str) -> str:
    """The address in its one text form, without scope. `ValueError` as `parse_address`."""
    return str(parse_address(text))


def is_canonical(text: str) -> bool:
    """Whether it is an address, and written so that it can be compared."""
    try:
        return canonical(text) == text
    except ValueError:
        return False


def check_text(group: str, code: str) -> None:
    """`Refused(code, ...)` where it isn't a multicast address in its one text form: for who hands it to a program."""
    if not is_canonical(group) or not parse_address(group).is_multicast:
        raise Refused(code, "malformed", f"'{group[:60]}' is no multicast address, or is not written as RFC 5952 says.")


def is_source_specific(address: IpAddress) -> bool:
    """A multicast address that has sources, RFC 4607 section 1: in 232/8 or FF3x::/32."""
    if isinstance(address, ipaddress.IPv4Address):
        return address in SOURCE_SPECIFIC
    packed = address.packed
    return packed[0] == 0xFF and packed[1] >> 4 == 3 and packed[2:4] == b"\0\0"


def check_group(group: str, sources: Sequence[str] = (), *, code: str = "address", sends_only: bool = False) -> str:
    """A group's address in its one text form.

    `Refused(code, ...)` where it is no multicast address, where it is source-specific and names no sources, or where a
    source is of the other family. `sends_only`: a sender needs to know no sources.
    """
    try:
        address = parse_address(group)
        families = {parse_address(source).version for source in sources}
    except ValueError as error:
        raise Refused(code, "malformed", f"{error}.") from None
    if not address.is_multicast:
        rule, whole = ("RFC 5771", "224.0.0.0/4") if address.version == 4 else ("RFC 4291", "ff00::/8")
        raise Refused(code, rule, f"{group} is no multicast address: choose one in {whole}.")
    if is_source_specific(address) and not (sources or sends_only):
        others = "239.0.0.0/8" if address.version == 4 else "ff15::/16"
        raise Refused(code, "RFC 4607", f"{group} is source-specific: name its sources, or choose one in {others}.")
    if families - {address.version}:
        raise Refused(code, "address family", f"The sources of {group} have to be IPv{address.version} addresses too.")
    return str(address)
