"""Reads of a machine what `mcsa doctor` judges."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from mcsa.cli.checks import Facts
from mcsa.errors import Refused
from mcsa.laboratory.kind import kind
from mcsa.laboratory.programs import program
from mcsa.shell.broker_process import find_server
from mcsa.shell.interfaces import interface_addresses
from mcsa.shell.multicast import GroupSocket
from mcsa.shell.netlink import KernelIpsec
from mcsa.shell.nftables import leftovers
from mcsa.shell.programs import find_program
from mcsa.shell.queries import Queries, queries_heard
from services.msm.drivers.xfrm import check_kernel

TEST_GROUP, TEST_PORT = "239.255.255.254", 49_321  # local scope; a port of the dynamic range
ALL_GROUPS = "224.0.0.0/4"
HEARD_WITHIN = 1.0  # seconds
_IFF_UP, _IFF_MULTICAST = 0x1, 0x1000  # linux/if.h
_CAP_NET_ADMIN = 12  # linux/capability.h
_STA_UNSYNC = 0x40  # linux/timex.h


def read_facts(interface: str, broker: str, querier: float = 0.0, groups: str = ALL_GROUPS) -> Facts:
    """Everything; a querier where that is to be listened for so many seconds. `interface` may be empty for the one that
    other programs' multicast to `groups`, or the default, leaves by."""
    addresses = interface_addresses()
    route = _route(TEST_GROUP if groups == ALL_GROUPS else str(ip_network(groups).network_address))
    chosen = interface or (route if route in addresses else next((name for name in addresses if name != "lo"), ""))
    flags = int(_read(f"/sys/class/net/{chosen}/flags") or "0", 16) if chosen else 0
    place = kind()
    queries = queries_heard(chosen, querier) if querier and chosen else Queries(None, None)
    return Facts(
        interface=chosen,
        interface_up=bool(flags & _IFF_UP),
        interface_multicast=bool(flags & _IFF_MULTICAST),
        multicast_route=route,
        groups=groups,
        multicast_heard=_self_test(addresses.get(chosen, "")),
        igmp_query_heard=queries.igmp,
        mld_query_heard=queries.mld,
        igmp_max_memberships=_number("/proc/sys/net/ipv4/igmp_max_memberships"),
        igmp_max_msf=_number("/proc/sys/net/ipv4/igmp_max_msf"),
        igmp_version_forced=_number(f"/proc/sys/net/ipv4/conf/{chosen}/force_igmp_version"),
        rmem_max=_number("/proc/sys/net/core/rmem_max"),
        wmem_max=_number("/proc/sys/net/core/wmem_max"),
        is_root=os.geteuid() == 0,
        namespaces=place.name,
        namespaces_reason=place.reason,
        clock_synchronised=_synchronised(),
        clock_year=datetime.now(UTC).year,
        tun_device=_opens("/dev/net/tun"),
        nft_program=find_program("nft") is not None,
        net_admin=_has_capability(_CAP_NET_ADMIN),
        rules_left=_rules_left(),
        kernel_ipsec=_kernel_ipsec(),
        broker_program=_broker_program(),
        broker_reachable=_reachable(broker) if broker else None,
        broker=broker,
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError:
        return False
    return True


def _kernel_ipsec() -> str:
    try:
        with KernelIpsec() as ipsec:
            check_kernel(ipsec)
    except Refused as refused:
        return refused.sentence
    return ""


def _rules_left() -> tuple[str, ...]:
    with suppress(Refused):  # no nft, or no right to ask it
        return tuple(leftovers())
    return ()


def _has_capability(number: int) -> bool:
    """Whether it is in this process's effective set, proc(5)."""
    lines = (line.split() for line in _read("/proc/self/status").splitlines() if line.startswith("CapEff:"))
    return any(int(words[1], 16) >> number & 1 for words in lines)


def _number(path: str) -> int | None:
    text = _read(path)
    return int(text) if text.lstrip("-").isdigit() else None


def _route(group: str) -> str:
    """The interface that the kernel takes for a group's address, or ""."""
    with suppress(Refused, OSError):
        argv = [program("ip"), "-o", "route", "get", group]
        words = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split()
        return words[words.index("dev") + 1] if "dev" in words else ""
    return ""


def _self_test(address: str) -> bool | None:
    if not address:
        return None
    token = os.urandom(16)
    try:
        with GroupSocket(TEST_GROUP, TEST_PORT, address, loop=True, shared=True) as group:
            group.send(token)
            group.socket.setblocking(False)
            while select.select([group], [], [], HEARD_WITHIN)[0]:
                if group.socket.recv(64) == token:
                    return True
    except (Refused, OSError):
        return False
    return False


def _synchronised() -> bool | None:
    """adjtimex(2): whether the kernel believes that somebody keeps its clock."""
    buffer = ctypes.create_string_buffer(512)  # struct timex, larger than any
    state = ctypes.CDLL(None).adjtimex(buffer)
    if state < 0:
        return None
    status = int.from_bytes(buffer.raw[40:44], "little")  # modes, offset, freq, maxerror, esterror: 8 bytes each
    return not status & _STA_UNSYNC


def _broker_program() -> str:
    try:
        return str(find_server())
    except Refused:
        return ""


def _reachable(url: str) -> bool:
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    try:
        with socket.create_connection((parts.hostname or "localhost", parts.port or 4222), 2.0) as connection:
            return connection.recv(5).startswith(b"INFO")
    except OSError:
        return False
