"""The door to the network interfaces of this thread's network namespace: which there are, and their addresses."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

from mcsa.addresses import parse_address

_SIOCGIFADDR = 0x8915
_SIOCGIFFLAGS = 0x8913
_RTM_NEWADDR, _RTM_GETADDR, _IFA_LOCAL = 20, 22, 2  # linux/rtnetlink.h, linux/if_addr.h
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300  # linux/netlink.h
IFF_UP, IFF_RUNNING = 0x1, 0x40  # linux/if.h
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


def ipv4_interfaces() -> dict[str, str]:
    """All IPv4 addresses of this network namespace, those after an interface's first too: address to interface."""
    names = dict(socket.if_nameindex())
    return {address: names[index] for address, index in _dumped_ipv4() if index in names}


def _dumped_ipv4() -> list[tuple[str, int]]:
    """Address and interface index of each, as the kernel dumps them (rtnetlink(7))."""
    found: list[tuple[str, int]] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as door:
        # struct nlmsghdr: length, type, flags, number, port; struct ifaddrmsg: family, 3 bytes, interface index
        door.send(struct.pack("=IHHIIB3xI", 24, _RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0, socket.AF_INET, 0))
        while True:
            rest = memoryview(door.recv(1 << 16))
            while len(rest) >= 16:
                length, kind = struct.unpack_from("=IH", rest)
                if kind != _RTM_NEWADDR:  # the end, or an error: then there is nothing more either
                    return found
                (index,) = struct.unpack_from("=I", rest, 20)
                found += [(socket.inet_ntoa(value), index) for value in _locals_in(rest[24:length])]
                rest = rest[_aligned(length) :]


def _locals_in(attributes: memoryview) -> list[bytes]:
    """struct rtattr: length, type, value."""
    found = []
    while len(attributes) >= 4:
        length, kind = struct.unpack_from("=HH", attributes)
        if kind == _IFA_LOCAL:
            found.append(bytes(attributes[4:length]))
        attributes = attributes[_aligned(max(length, 4)) :]
    return found


def _aligned(length: int) -> int:
    return length + -length % 4


def interface_addresses6() -> dict[str, tuple[str, ...]]:
    """Likewise for IPv6: all addresses of each interface, the widest scope first; none that is not usable yet."""
    found: dict[str, list[ipaddress.IPv6Address]] = {}
    for address, _, name in _ipv6_addresses():
        found.setdefault(name, []).append(address)
    ordered = {name: sorted(addresses, key=lambda one: (one.is_link_local, one)) for name, addresses in found.items()}
    return {name: tuple(map(str, addresses)) for name, addresses in ordered.items()}


def interface_flags(name: str) -> int:
    """`IFF_UP`, `IFF_RUNNING` and others; 0 where there is no such interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        answer = fcntl.ioctl(probe.fileno(), _SIOCGIFFLAGS, struct.pack("256s", name.encode()))
        return int.from_bytes(answer[16:18], sys.byteorder)
    return 0


def interface_index(name: str) -> int:
    """Its number, which an interface that is made again has another of; 0 where there is none."""
    with suppress(OSError):
        return socket.if_nametoindex(name)
    return 0


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
