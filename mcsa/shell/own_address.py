"""A host's own address on the interface that carries its multicast: which it is now, and what is wrong with it.

The operator names an address, or an interface, whose address it then is, also when that changes. The kernel says when
something has changed (a netlink route socket, rtnetlink(7)); what is so now is looked up, never concluded from what it
says, so that a lost message does no harm.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from mcsa.addresses import parse_address
from mcsa.errors import Refused
from mcsa.networks import DEFAULT, Network, Networks
from mcsa.shell.interfaces import (
    IFF_RUNNING,
    IFF_UP,
    interface_addresses,
    interface_addresses6,
    interface_flags,
    interface_index,
    ipv4_interfaces,
)

CODE = "own-address"
SETTLE_FOR = 0.2  # seconds: what changes together, an address that is replaced, is looked at together
_NETLINK_ROUTE = 0
_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR; linux/rtnetlink.h


class OwnAddress:
    """See the module. `wanted` is an address (link-local with its scope) or the name of an interface; then the address
    is of IPv4 where the interface has one, unless `wanted` says "eth0 ipv6", or "eth0 ipv4" for no other."""

    def __init__(self, wanted: str, *, awaited: bool = False) -> None:
        """`Refused` where an interface is named that there isn't, or that has no address, unless that is `awaited`. An
        address may be missing: it is looked for again, and `now` says so."""
        self._wanted, _, family = ("", "", "") if _is_address(wanted) else wanted.partition(" ")
        self._family = family
        self._address = "" if self._wanted else wanted
        self._interface = self._wanted or _interface_with(wanted)
        if self._wanted and not awaited and not self._of_interface():
            sentence = f"there is no interface {wanted} with an address; see `ip address`"
            raise Refused(CODE, "interface", sentence)
        self._address = self._address or self._of_interface()

    @property
    def address(self) -> str:
        """As sockets take it: a link-local one with its interface."""
        return self._address

    def now(self) -> Network:
        """Looks."""
        found = self._of_interface() if self._wanted else ""
        self._address = found or self._address
        self._interface = self._wanted or _interface_with(self._address) or self._interface
        return Network(self._address, self._trouble(), interface_index(self._interface), self._interface)

    def _trouble(self) -> str:
        name, flags = self._interface, interface_flags(self._interface) if self._interface else 0
        if name and not interface_index(name):
            return f"there is no interface {name}: see `ip link`"
        if name and not flags & IFF_UP:
            return f"{name} is down: ip link set dev {name} up"
        if not self._address:
            family = "IPv6" if self._family == "ipv6" else "IPv4"
            return f"{name} has no {family} address: ip address add ADDRESS dev {name}"
        if _interface_with(self._address) == "":
            kind = "-6 " if ":" in self._address else ""
            length = 64 if kind else 24
            where = name or "INTERFACE"
            return f"no interface has {self._address}: ip {kind}address add {self._address}/{length} dev {where}"
        if not flags & IFF_RUNNING:
            return f"{name} has no carrier: look at its cable, and at what is at the other end"
        return ""

    def _of_interface(self) -> str:
        """The first address of the interface that was named: of IPv4 where it has one, else the widest of IPv6; of the
        family that it had before, once it had one."""
        of_4, of_6 = interface_addresses().get(self._wanted, ""), interface_addresses6().get(self._wanted, ())
        first = of_6[0] if of_6 else ""
        if first and parse_address(first).is_link_local:
            first = f"{first}%{self._wanted}"
        if self._family == "ipv6" or ":" in self._address:
            return first
        return of_4 if self._address or self._family else of_4 or first


class OwnNetworks:
    """All networks of a service's configuration, by name what the operator says of each: an own address as `OwnAddress`
    takes it, or nothing, where the host isn't in it. `Refused` as there; where they are `awaited`, only for the default
    one: one network that is missing keeps nobody from the others."""

    def __init__(self, wanted: Mapping[str, str], *, awaited: bool = False) -> None:
        self._wanted = wanted
        self._own = {
            name: OwnAddress(text, awaited=awaited and name != DEFAULT) for name, text in wanted.items() if text
        }

    def now(self) -> Networks:
        """Looks."""
        return Networks({name: self._own[name].now() if name in self._own else Network("") for name in self._wanted})

    def watch(self, changed: Callable[[str, Network], None]) -> list[NetworkWatch]:
        """A watch of each; `changed` is told which has."""
        return [NetworkWatch(own, partial(changed, name)) for name, own in self._own.items()]


def family_of(wanted: str) -> int:
    """4 or 6 where what the operator says tells it, 0 where it doesn't: an interface's name alone."""
    if _is_address(wanted):
        return parse_address(wanted).version
    return {"ipv4": 4, "ipv6": 6}.get(wanted.partition(" ")[2], 0)


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


def _interface_with(address: str) -> str:
    """The name of the interface that has it; "" where none has."""
    wanted, scope = parse_address(address), address.partition("%")[2]
    if wanted.version == 4:
        return ipv4_interfaces().get(str(wanted), "")
    named = interface_addresses6().items()
    return next((name for name, has in named if str(wanted) in has and scope in ("", name)), "")


class NetworkWatch:
    """Tells what is so now whenever that is another thing than before. In the running loop."""

    def __init__(self, own: OwnAddress, changed: Callable[[Network], None]) -> None:
        self._own = own
        self._changed = changed
        self._last = own.now()
        self._timer: asyncio.TimerHandle | None = None
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
        self._socket.setblocking(False)
        self._socket.bind((0, _GROUPS))
        asyncio.get_running_loop().add_reader(self._socket, self._told)
        if self._last.trouble:
            asyncio.get_running_loop().call_soon(changed, self._last)

    def close(self) -> None:
        """Tells nothing more. May be called twice."""
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        if self._timer is not None:
            self._timer.cancel()

    def _told(self) -> None:
        with suppress(OSError):  # nothing more, or ENOBUFS: some were lost
            while self._socket.recv(65_536):
                pass
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SETTLE_FOR, self._look)

    def _look(self) -> None:
        self._timer = None
        found = self._own.now()
        if found != self._last:
            self._last = found
            self._changed(found)
