"""The `relay` driver: applications use a local socket. Needs no privilege where the wire form is UDP."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from mcsa.errors import Refused
from mcsa.networks import Networks
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.drivers.interface import DriverSettings, Tell
from services.msm.engine import GroupEngine, Outlet
from services.msm.largest import largest_of
from services.msm.local_outlet import LocalOutlet
from services.msm.loopback_outlet import LoopbackOutlet
from services.msm.wires import open_wire


class RelayedGroup:
    """One group: its engine, its local socket, and UDP on loopback where that is asked for."""

    def __init__(
        self,
        settings: DriverSettings,
        domain: str,
        group: GroupDescription,
        tell: Tell,
        *,
        transparent: bool = False,
        send_only: bool = False,
        outlet: Callable[[GroupEngine], Outlet] | None = None,
    ) -> None:
        """`transparent`, `send_only`: the wire's. `outlet`, made for the engine, is beside the local socket."""
        self._address = settings.networks.of(group.address).address
        self._open_wire = partial(
            open_wire, group, offload=settings.offload, transparent=transparent, send_only=send_only
        )
        with ExitStack() as opened:
            wire = self._open_wire(self._address)
            opened.callback(wire.close)
            self.engine = GroupEngine(settings.make_path(domain, group), wire, tell, settings.cores.pin)
            opened.callback(self.engine.close)
            self._local = LocalOutlet(settings.sockets, self.engine, pin=settings.cores.pin)
            opened.callback(self._local.close)
            outlets: list[Outlet] = [self._local.deliver]
            if outlet is not None:
                outlets.append(outlet(self.engine))
            if group.name in settings.loopback:
                loopback = LoopbackOutlet(self.engine, *settings.loopback[group.name])
                opened.callback(loopback.close)
                outlets.append(loopback.deliver)
            self.engine.outlets = tuple(outlets)
            self.engine.start()
            self._opened = opened.pop_all()

    @property
    def socket_path(self) -> str:
        return self._local.socket_path

    @property
    def largest_payload(self) -> int:
        return largest_of(self.engine.path.group, self._address)

    def counters(self) -> Mapping[str, int]:
        return self.engine.counters()

    def control(self, effect: Any) -> None:
        self.engine.control(effect)

    def move(self, address: str, failed: Callable[[Refused], None]) -> None:
        self._address = address
        self.engine.rewire(partial(self._open_wire, address), failed)

    def close(self) -> None:
        self._opened.close()


class RelayDriver:
    """See the module."""

    spreads = True

    def __init__(self, settings: DriverSettings) -> None:
        self._settings = settings

    def open(self, domain: str, group: GroupDescription, tell: Tell) -> RelayedGroup:
        return RelayedGroup(self._settings, domain, group, tell)

    def move(self, networks: Networks) -> None:
        self._settings = replace(self._settings, networks=networks)

    def close(self, staying: Collection[str] = ()) -> None:
        """There is nothing but the groups; applications never use their addresses."""


DRIVER = RelayDriver
