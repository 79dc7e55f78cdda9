"""The `xfrm` driver: the kernel's IPsec carries the packets, and the MSM tells it by netlink under which keys.

Applications use ordinary UDP sockets on the group's own address. Needs a kernel with ESP, CAP_NET_ADMIN, CAP_NET_RAW.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from mcsa.addresses import parse_address
from mcsa.errors import Refused
from mcsa.esp.derive import TrafficKey
from mcsa.esp.suite import suite_named
from mcsa.networks import Networks
from mcsa.shell.netlink import WAY_OUT, KernelIpsec, refusal
from mcsa.v1.types_pb2 import GroupDescription
from mcsa.xfrm.layout import Address
from mcsa.xfrm.operations import AddState, DeleteReported, DeleteState
from mcsa.xfrm.state import KernelState
from services.msm.drivers.interface import DriverSettings, Tell
from services.msm.kernel_group import KernelGroup
from services.msm.kernel_policies import Reqids

REQIDS = range(
    0x4D430000, 0x4D440000
)  # "MC": all that have these are ours, also after a crash; IKE daemons count from 1
_LOCK = b"\0mcsa-xfrm"  # an abstract Unix socket: one for each network namespace, and gone with its process
_DOCUMENTATION: dict[int, Address] = {4: IPv4Address("192.0.2.1"), 6: IPv6Address("2001:db8::1")}  # RFC 5737, RFC 3849


class XfrmDriver:
    """See the module. One in each network namespace."""

    spreads = False  # the kernel has all cores

    def __init__(self, settings: DriverSettings) -> None:
        if any(parse_address(network.address).is_loopback for network in settings.networks.joined().values()):
            sentence = "The kernel's IPsec has one table for all of a machine's loopback addresses."
            raise Refused("driver", "xfrm.loopback", f"{sentence} {WAY_OUT}.")
        if settings.loopback:
            sentence = "Under xfrm applications use the groups' own addresses: take `loopback` out of msm.toml."
            raise Refused("driver", "xfrm.loopback-ports", sentence)
        self._settings = settings
        self._last_reqid = REQIDS[0]
        self._lock = _only_one()
        try:
            self._ipsec = KernelIpsec()
            check_kernel(self._ipsec)
            self._take_over()
        except BaseException:
            self._lock.close()
            raise

    def open(self, domain: str, group: GroupDescription, tell: Tell) -> KernelGroup:
        check_kernel(self._ipsec, group.policy.suite, parse_address(group.address).version)
        return KernelGroup(self._settings, domain, group, self._free_reqids(), tell)

    def move(self, networks: Networks) -> None:
        self._settings = replace(self._settings, networks=networks)

    def close(self, staying: Collection[str] = ()) -> None:
        """Other closed groups' addresses are like any other again."""
        ours = [report for report in self._ipsec.policies() if report.reqid in REQIDS]
        gone = [DeleteReported(report) for report in ours if str(report.destination) not in staying]
        self._ipsec.carry_out(gone)
        self._ipsec.close()
        self._lock.close()

    def _free_reqids(self) -> Reqids:
        """Never the same twice: a closed group's policies stay until the driver is closed."""
        self._last_reqid += 2
        if self._last_reqid not in REQIDS:
            raise Refused("driver", "xfrm.groups", "This MSM has opened 32,000 groups: restart it.")
        return Reqids(self._last_reqid, self._last_reqid + 1)

    def _take_over(self) -> None:
        """What an MSM that died left: its states go. Its policies stay, so that nothing passes in the clear that
        didn't before; they are replaced as groups are opened, and go when this driver closes."""
        stale = [report for report in self._ipsec.states() if report.reqid in REQIDS]
        self._ipsec.carry_out([DeleteReported(report) for report in stale])
        left = [report.reqid for report in self._ipsec.policies() if report.reqid in REQIDS]
        self._last_reqid = max([REQIDS[0], *(reqid - reqid % 2 for reqid in left if reqid is not None)])


def check_kernel(ipsec: KernelIpsec, suite: str = "aes-256-gcm", version: int = 4) -> None:
    """Whether the kernel has this cipher in ESP: `Refused` with the way out. The key is nobody's, and gone at once."""
    address, keymat_size = _DOCUMENTATION[version], suite_named(suite).keymat_size
    spi = int.from_bytes(os.urandom(4), "big") | 1 << 31
    key = TrafficKey(os.urandom(keymat_size), suite_named(suite), spi)
    state = KernelState(address, address, key, REQIDS[-1], replay_window=32, in_udp=False)
    for failure in ipsec.carry_out([AddState(state)]):
        raise refusal(failure)
    ipsec.carry_out([DeleteState(state)])


def _only_one() -> socket.socket:
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        lock.bind(_LOCK)
    except OSError:
        lock.close()
        sentence = "Another MSM programs the kernel's IPsec of this network namespace already: stop it first. "
        "See which: ss -xap | grep mcsa-xfrm"
        raise Refused("driver", "xfrm.one", sentence) from None
    return lock


DRIVER = XfrmDriver
