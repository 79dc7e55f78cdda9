"""The door to the network interfaces of this thread's network namespace: which there are, and their addresses."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

from mcsa.addresses import parse_address

_SIOCGIFADDR = 0x8915
_IF_INET6 = Path("/proc/thread-self/net/if_inet6")  # missing where the kernel has no IPv6
_UNUSABLE = 0x48  # linux/if_addr.h: IFA_F_TENTATIVE, IFA_F_DADFAILED


def interface_addresses() -> dict[str, str]:
    """The interfaces of this network namespace that have an IPv4 address: name to (first) address."""
    addresses = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has none
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()))
                addresses[name] = socket.inet_ntoa(answer[20:24])  # struct ifreq: name (16), family (2), port (2)
    return addresses


def interface_addresses6() -> dict[str, tuple[str, ...]]:
    """Likewise for IPv6: all addresses of each interface, the widest scope first; none that is not usable yet."""
    found: dict[str, list[ipaddress.IPv6Address]] = {}
    for address, _, name in _ipv6_addresses():
        found.setdefault(name, []).append(address)
    ordered = {name: sorted(addresses, key=lambda one: (one.is_link_local, one)) for name, addresses in found.items()}
    return {name: tuple(map(str, addresses)) for name, addresses in ordered.items()}


def ipv6_interface(address: str) -> int:
    """The index of the interface that has an IPv6 address; a link-local one needs its scope (`fe80::1%eth0`), since
    any number of interfaces may have it. `OSError` where none has it."""
    wanted, scope = parse_address(address), address.partition("%")[2]
    for found, index, name in _ipv6_addresses():
        if found == wanted and scope in (name, str(index), "") and (scope or not found.is_link_local):
            return index
    raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


def _ipv6_addresses() -> list[tuple[ipaddress.IPv6Address, int, str]]:
    """Address, index and name of the interface. A line of the kernel's: address, index, prefix length, scope, flags,
    name; numbers in hexadecimal."""
    try:
        lines = _IF_INET6.read_text().splitlines()
    except FileNotFoundError:
        return []
    parts = [line.split() for line in lines]
    return [
        (ipaddress.IPv6Address(bytes.fromhex(address)), int(index, 16), name)
        for address, index, _, _, flags, name in parts
        if not int(flags, 16) & _UNUSABLE
    ]
