"""The `tun` driver: applications use the groups' own addresses, unmodified, through a TUN interface.

    application --route--> TUN interface --reader thread--> the group with that address --engine--> network
    network --engine--> TUN interface, from the sender's address --> applications that joined the group

The local sockets of `relay` are there too, for the CSM and applications that use them. Only groups of media are routed:
the control group is the CSM's, and what an application sends to its address, or to the port where the Authorizer speaks
in any group, goes nowhere. Traffic class and hop limit pass through, the latter no further than the group's own.
Nothing is fragmented: who sends more than fits is told by its own kernel.

Rules (`mcsa.shell.nftables`) keep plaintext for a group off all other interfaces, both ways, from before it is joined
until this driver closes, also after the group has closed: who goes on talking is not heard in the clear. Those of
groups that were open then stay, and so do those that an MSM which was killed left. Where an administrator takes away
rules, routes, or the interface, they are put back, and nothing passes meanwhile while the rules are there.
"""

from __future__ import annotations

import errno
import selectors
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import lru_cache, partial
from ipaddress import ip_address
from typing import Any

from mcsa.addresses import canonical, parse_address
from mcsa.errors import Refused
from mcsa.esp.ip import UDP_HEADER_SIZE, headers_size
from mcsa.esp.outbound import largest_payload
from mcsa.networks import Networks
from mcsa.shell.marking import Marking
from mcsa.shell.nftables import GroupFirewall
from mcsa.shell.tun import ADDRESS, ADDRESS_6, FAR_END, FAR_END_6, Outgoing, TunInterface, physical_mtu
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.drivers.interface import DriverSettings, Tell
from services.msm.drivers.relay import RelayedGroup
from services.msm.engine import GroupEngine, Outlet
from services.msm.largest import taken_inside
from services.msm.received import Received, together
from services.msm.stop import Stop

CONTROL_GROUP = "control"  # the name that CSMs know it by
CHECK_EVERY = 5.0  # seconds; who flushes a host's rules flushes ours, and an interface that is taken down has no routes
# A packet alone costs this host and all receivers three times what one in a batch does. So where packets come so often
# (2,000 a second; voice has 50), a moment is waited for more of them, as network cards do.
BUSY_UNDER = 0.0005  # seconds that a packet is waited for
GATHER_FOR = 0.0004  # seconds
READ_AT_ONCE = 128  # packets or super-packets


class TunnelledGroup:
    """One group: what `relay` has, and applications at the TUN interface."""

    def __init__(
        self, settings: DriverSettings, domain: str, group: GroupDescription, tell: Tell, interface: TunInterface
    ) -> None:
        self.address = group.address
        self.destination = _packed(group.address)
        self._hop_limit = group.ttl or 1
        self._interface = interface
        self._relayed = RelayedGroup(settings, domain, group, tell, transparent=True, outlet=self._outlet)
        self.engine = self._relayed.engine
        self.before_closing: Callable[[TunnelledGroup], None] = lambda _: None

    @property
    def socket_path(self) -> str:
        return self._relayed.socket_path

    @property
    def largest_payload(self) -> int:
        return self._relayed.largest_payload

    def counters(self) -> Mapping[str, int]:
        """The group's, and with `tun.` in front those that all groups of the interface share."""
        shared = {**self._interface.counters, "overrun": self._interface.dropped()}
        return {**self._relayed.counters(), **{f"tun.{cause}": count for cause, count in shared.items() if count}}

    def control(self, effect: Any) -> None:
        self._relayed.control(effect)

    def close(self) -> None:
        self.before_closing(self)
        self._relayed.close()

    def move(self, address: str, failed: Callable[[Refused], None]) -> None:
        self._relayed.move(address, failed)

    def say(self, outgoing: Outgoing) -> None:
        """What an application sent to this group."""
        datagram = outgoing.datagram
        if not datagram.hop_limit:  # "not beyond this host": its kernel has shown it to others here
            self.engine.path.counters["unsent.ttl"] += len(outgoing.payloads)
            return
        marking = Marking(datagram.traffic_class, min(datagram.hop_limit, self._hop_limit))
        self.engine.say(outgoing.payloads, datagram.source_port, datagram.destination_port, marking)

    def _outlet(self, engine: GroupEngine) -> Outlet:
        def deliver(found: Sequence[Received]) -> None:
            """To the applications that joined, as what it was when its sender sent it."""
            marking = engine.marking
            for first, payloads in together(found):
                # Unknown is, at a relaying agent, where a sender of another subgroup is.
                source = engine.path.address_of(first) or (FAR_END_6 if ":" in self.address else FAR_END)
                ports = first.source_port, first.destination_port
                self._interface.write(_packed(source), self.destination, *ports, payloads, *marking)

        return deliver


class TunDriver:
    """See the module. Raises `Refused` where there can be no TUN interface, or no rules."""

    spreads = False  # one interface for all groups

    def __init__(self, settings: DriverSettings) -> None:
        if any(parse_address(network.address).is_loopback for network in settings.networks.joined().values()):
            raise Refused("driver", "tun", 'hosts on loopback have no interface to route: choose driver = "relay"')
        self._settings = settings
        self._sources = _sources(settings.networks)
        self._groups: Mapping[bytes, TunnelledGroup] = {}  # by destination; replaced, never changed
        self._restoring = threading.Lock()
        self._closing = threading.Event()
        with ExitStack() as opened:
            self._interface = TunInterface(
                settings.interface, largest_packet_of(settings.networks), offload=settings.offload
            )
            opened.callback(self._interface.close)
            self.firewall = GroupFirewall(settings.interface)
            opened.callback(self.firewall.close)
            self._protected = frozenset(self.firewall.protected())  # replaced, likewise
            opened.pop_all()
        self._stop = Stop()
        self._threads = [
            threading.Thread(target=self._read, name="tun reader", daemon=True),
            threading.Thread(target=self._watch, name="tun watch", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def open(self, domain: str, group: GroupDescription, tell: Tell) -> TunnelledGroup:
        with self._restoring:
            self.firewall.protect([group.address])
            self._protected |= {group.address}
        opened = TunnelledGroup(self._settings, domain, group, tell, self._interface)
        if group.name == CONTROL_GROUP:
            return opened
        try:
            self._route(group)
        except BaseException:
            opened.close()
            raise
        opened.before_closing = self._close_to_applications
        self._groups = {**self._groups, opened.destination: opened}
        return opened

    def move(self, networks: Networks) -> None:
        self._settings = replace(self._settings, networks=networks)
        self._sources = _sources(networks)
        resized = False
        with suppress(Refused):  # what has gone again will be told again
            resized = self._interface.resize(largest_packet_of(networks))
        for group in self._groups.values():
            with suppress(Refused):
                self._route(group.engine.group, again=resized)

    def _route(self, group: GroupDescription, *, again: bool = True) -> None:
        """Packets of a group are as long as its own network takes them. Without `again` nothing is done where the route
        says so."""
        mtu = largest_packet(self._settings.networks.of(group.address).address) - taken_inside(group)
        if again or self._interface.mtu_of(group.address) != mtu:
            self._interface.route(group.address, mtu)

    def _close_to_applications(self, group: TunnelledGroup) -> None:
        """Applications reach it no longer; the rules stay."""
        if self._groups.get(group.destination) is group:
            self._groups = {to: each for to, each in self._groups.items() if each is not group}
            self._interface.unroute(group.address)

    def close(self, staying: Collection[str] = ()) -> None:
        if not self._stop.set():
            return
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self.firewall.close(staying)
        self._interface.close()
        self._stop.close()

    def _read(self) -> None:
        self._settings.cores.pin()
        with selectors.DefaultSelector() as watch:
            watch.register(self._interface, selectors.EVENT_READ)
            watch.register(self._stop, selectors.EVENT_READ)
            while not self._stop.is_set:
                began_at, amount = time.monotonic(), 0
                watch.select()
                waited_for = time.monotonic() - began_at
                for outgoing in self._read_interface():
                    amount += len(outgoing.payloads)
                    self._send(outgoing)
                if waited_for < BUSY_UNDER and amount < READ_AT_ONCE:
                    time.sleep(GATHER_FOR)

    def _read_interface(self) -> list[Outgoing]:
        try:
            return self._interface.read(READ_AT_ONCE)
        except OSError as error:
            if error.errno != errno.EBADFD:
                raise
            if not self._restore():
                self._closing.wait(CHECK_EVERY)
            return []

    def _send(self, outgoing: Outgoing) -> None:
        group = self._groups.get(outgoing.datagram.destination)
        if group is None:  # not open any more; or mDNS and others that speak on every interface
            self._interface.counters["no-group"] += len(outgoing.payloads)
        elif outgoing.datagram.source not in self._sources:
            self._interface.counters["foreign-source"] += len(outgoing.payloads)
        else:
            group.say(outgoing)

    def _watch(self) -> None:
        while not self._closing.wait(CHECK_EVERY):
            self._restore()

    def _restore(self) -> bool:
        """Puts back what an administrator took; whether all is there. What can't be is counted, and tried again."""
        with self._restoring:
            rules = self._restored("rules", partial(self.firewall.restore, self._protected))
            return self._restored("interface", self._interface.restore) and rules

    def _restored(self, name: str, restore: Callable[[], bool]) -> bool:
        try:
            if restore():
                self._interface.counters[f"{name}-restored"] += 1
        except (Refused, OSError):
            self._interface.counters[f"{name}-missing"] += 1
            return False
        return True


def largest_packet(address: str) -> int:
    """Bytes that an application's IP packet may have on a host with this address; `Refused` where it has no such."""
    headers = headers_size(parse_address(address).packed)
    return headers + largest_payload(physical_mtu(canonical(address)), headers - UDP_HEADER_SIZE)


def largest_packet_of(networks: Networks) -> int:
    """The same of all its networks that are there; `Refused` where none is."""
    found, missing = list[int](), list[Refused]()
    for network in networks.joined().values():
        try:
            found.append(largest_packet(network.address))
        except Refused as refused:
            missing.append(refused)
    if not found:
        raise missing[0]
    return max(found)


def _sources(networks: Networks) -> set[bytes]:
    """Whom applications on this host speak as."""
    own = [network.source for network in networks.joined().values()]
    return {_packed(each) for each in (*own, ADDRESS, ADDRESS_6)}


@lru_cache(maxsize=4096)
def _packed(address: str) -> bytes:
    return ip_address(address).packed


DRIVER = TunDriver
