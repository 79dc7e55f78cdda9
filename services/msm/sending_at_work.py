"""A group that this host sends to and is no member of, at work: a local socket, an engine, a wire that joins nothing.

It is the same with every driver: with `tun` and `xfrm`, too, applications send to such a group by its local socket, or
by UDP on loopback where the host's configuration asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from mcsa.v1.types_pb2 import GroupDescription
from services.msm.drivers import DriverSettings
from services.msm.drivers.interface import Tell
from services.msm.engine import GroupEngine
from services.msm.largest import largest_of
from services.msm.local_outlet import LocalOutlet
from services.msm.loopback_outlet import LoopbackOutlet
from services.msm.wires import open_wire


class SendingAtWork:
    """As `drivers.GroupAtWork`. Raises `Refused` where a socket can't be had."""

    def __init__(self, settings: DriverSettings, domain: str, group: GroupDescription, tell: Tell) -> None:
        self._address = settings.address
        with ExitStack() as opened:
            wire = open_wire(group, settings.address, offload=settings.offload, send_only=True)
            opened.callback(wire.close)
            self.engine = GroupEngine(settings.make_path(domain, group), wire, tell)
            opened.callback(self.engine.close)
            self._local = LocalOutlet(settings.sockets, self.engine)
            opened.callback(self._local.close)
            if group.name in settings.loopback:
                opened.callback(LoopbackOutlet(self.engine, *settings.loopback[group.name]).close)
            self.engine.start()
            self._opened = opened.pop_all()

    @property
    def socket_path(self) -> str:
        return self._local.socket_path

    @property
    def largest_payload(self) -> int:
        return largest_of(self.engine.path.group, self._address)

    def counters(self) -> Mapping[str, int]:
        return dict(self.engine.path.counters)

    def control(self, effect: Any) -> None:
        self.engine.control(effect)

    def close(self) -> None:
        self._opened.close()
