"""The `tun` driver: applications use the groups' own addresses, unmodified, through a TUN interface.

    application --route--> TUN interface --reader thread--> the group with that address --engine--> network
    network --engine--> TUN interface, from the sender's address --> applications that joined the group

The local sockets of `relay` are there too, for the CSM and applications that use them. Only groups of media are routed:
the control group is the CSM's, and what an application sends to its address, or to the port where the Authorizer speaks
in any group, goes nowhere. Traffic class and hop limit pass through, the latter no further than the group's own.
Nothing is fragmented: who sends more than fits is told by its own kernel.

Rules (`mcsa.shell.nftables`) keep plaintext for a group off all other interfaces, both ways, from before it is joined
until this driver closes, also after the group has closed: who goes on talking is not heard in the clear.
"""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
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
CHECK_RULES_EVERY = 5.0  # seconds; who flushes a host's rules flushes ours
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
        own = [network.address for network in settings.networks.joined().values()]
        if any(parse_address(address).is_loopback for address in own):
            raise Refused("driver", "tun", 'hosts on loopback have no interface to route: choose driver = "relay"')
        self._settings = settings
        self._sources = _sources(settings.networks)
        self._groups: Mapping[bytes, TunnelledGroup] = {}  # by destination; replaced, never changed
        self._protected: frozenset[str] = frozenset()  # replaced, likewise
        self._closing = threading.Event()
        with ExitStack() as opened:
            self._interface = TunInterface(settings.interface, max(map(_mtu_of, own)), offload=settings.offload)
            opened.callback(self._interface.close)
            self.firewall = GroupFirewall(settings.interface)
            opened.callback(self.firewall.close)
            self._opened = opened.pop_all()
        self._stop = Stop()
        self._threads = [
            threading.Thread(target=self._read, name="tun reader", daemon=True),
            threading.Thread(target=self._watch_rules, name="tun rules", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def open(self, domain: str, group: GroupDescription, tell: Tell) -> TunnelledGroup:
        self.firewall.protect([group.address])
        self._protected |= {group.address}
        opened = TunnelledGroup(self._settings, domain, group, tell, self._interface)
        if group.name == CONTROL_GROUP:
            return opened
        try:
            own_address = self._settings.networks.of(group.address).address
            self._interface.route(group.address, _mtu_of(own_address) - taken_inside(group))
        except BaseException:
            opened.close()
            raise
        opened.before_closing = self._close_to_applications
        self._groups = {**self._groups, opened.destination: opened}
        return opened

    def move(self, networks: Networks) -> None:
        self._settings = replace(self._settings, networks=networks)
        self._sources = _sources(networks)

    def _close_to_applications(self, group: TunnelledGroup) -> None:
        """Applications reach it no longer; the rules stay."""
        if self._groups.get(group.destination) is group:
            self._groups = {to: each for to, each in self._groups.items() if each is not group}
            self._interface.unroute(group.address)

    def close(self) -> None:
        if not self._stop.set():
            return
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._opened.close()
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
                for outgoing in self._interface.read(READ_AT_ONCE):
                    amount += len(outgoing.payloads)
                    self._send(outgoing)
                if waited_for < BUSY_UNDER and amount < READ_AT_ONCE:
                    time.sleep(GATHER_FOR)

    def _send(self, outgoing: Outgoing) -> None:
        group = self._groups.get(outgoing.datagram.destination)
        if group is None:  # not open any more; or mDNS and others that speak on every interface
            self._interface.counters["no-group"] += len(outgoing.payloads)
        elif outgoing.datagram.source not in self._sources:
            self._interface.counters["foreign-source"] += len(outgoing.payloads)
        else:
            group.say(outgoing)

    def _watch_rules(self) -> None:
        while not self._closing.wait(CHECK_RULES_EVERY):
            try:
                if self.firewall.restore(self._protected):
                    self._interface.counters["rules-restored"] += 1
            except Refused:  # until they are there again: what can be done is to say so, and to go on trying
                self._interface.counters["rules-missing"] += 1


def _sources(networks: Networks) -> set[bytes]:
    """Whom applications on this host speak as."""
    own = [network.source for network in networks.joined().values()]
    return {_packed(each) for each in (*own, ADDRESS, ADDRESS_6)}


def _mtu_of(address: str) -> int:
    """Of packets of applications that, sealed, leave in one piece by the interface with this address."""
    headers = headers_size(parse_address(address).packed)
    return headers + largest_payload(physical_mtu(canonical(address)), headers - UDP_HEADER_SIZE)


@lru_cache(maxsize=4096)
def _packed(address: str) -> bytes:
    return ip_address(address).packed


DRIVER = TunDriver
