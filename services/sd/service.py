"""The session directory as a process: its core on the bus, SAP on the multicast."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from mcsa import subjects
from mcsa.broker import bus_name
from mcsa.endpoint import Endpoint
from mcsa.errors import Refused
from mcsa.sap.directory import Directory
from mcsa.sap.packet import ADDRESSES, PORT
from mcsa.shell.assembly import Assembly
from mcsa.shell.multicast import MulticastListener
from mcsa.shell.service import RunningService
from services.sd.config import SdSettings
from services.sd.core import SdCore
from services.sd.events import SapArrived, SendSap

BURST = 16  # datagrams read before the event loop gets its turn: a flood must not silence the bus


class SdService:
    """See the module."""

    def __init__(self, settings: SdSettings) -> None:
        self._assembly = assembly = Assembly("sd", settings)
        self._loop = asyncio.get_running_loop()
        directory = Directory(settings.address, os.urandom, settings.interval_floor, settings.forget_after)
        self._listener = MulticastListener(ADDRESSES, PORT, settings.address, settings.ttl, settings.loop)
        endpoint = Endpoint(
            subjects.SD,
            assembly.credentials.id.token,
            assembly.credentials,
            assembly.trust,
            SdCore(directory),
            os.urandom,
            telemetry=assembly.telemetry,
        )
        bus = assembly.bus(bus_name(subjects.SD, endpoint.caller))
        self._running = RunningService(endpoint, bus, self._perform)

    async def start(self) -> None:
        """Listens to the network first, then serves."""
        self._loop.add_reader(self._listener, self._read)
        await self._running.start()

    async def close(self) -> None:
        """Ends. What is announced is forgotten by others when it is not repeated."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        await self._running.close()
        self._assembly.close()

    def _read(self) -> None:
        for _ in range(BURST):
            heard = self._listener.receive()
            if heard is None:
                return
            self._running.feed(SapArrived(heard.payload, heard.source))

    def _perform(self, effect: Any) -> None:
        if not isinstance(effect, SendSap):
            raise TypeError(effect)
        try:
            self._listener.send(effect.payload, effect.address)
        except Refused:  # it is repeated
            self._running.endpoint.counters["sap.unsent"] += 1
