"""The session directory as a process: its core on the bus, SAP on the multicast, its state in a file."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mcsa import subjects
from mcsa.broker import bus_name
from mcsa.endpoint import Endpoint
from mcsa.errors import Refused
from mcsa.networks import Networks
from mcsa.sap.directory import Directory, Place
from mcsa.sap.packet import PORT
from mcsa.sap.schedule import Pace
from mcsa.sap.scopes import IPV6_ADDRESSES, Scopes
from mcsa.sap.state import LARGEST_STATE
from mcsa.shell.assembly import Assembly
from mcsa.shell.clock import system_now
from mcsa.shell.multicast import MulticastListener
from mcsa.shell.own_address import OwnNetworks
from mcsa.shell.sealed_file import write_atomically
from mcsa.shell.service import RunningService
from services.sd.config import SdSettings
from services.sd.core import SdCore
from services.sd.events import KeepState, Recovered, SapArrived, SendSap

BURST = 16  # datagrams read before the event loop gets its turn: a flood must not silence the bus
STATE = "directory.state"


def _listeners(settings: SdSettings, networks: Networks, scopes: Scopes) -> dict[str, MulticastListener]:
    """One for each own address, whichever networks have it; `Refused`."""
    ipv4_addresses = list(dict.fromkeys([*scopes.addresses(), *settings.listen]))
    found: dict[str, MulticastListener] = {}
    for network in networks.joined().values():
        if network.address not in found:
            addresses = IPV6_ADDRESSES if ":" in network.address else ipv4_addresses
            found[network.address] = MulticastListener(addresses, PORT, network.address, settings.ttl, settings.loop)
    return found


class SdService:
    """See the module."""

    def __init__(self, settings: SdSettings) -> None:
        self._assembly = assembly = Assembly("sd", settings)
        self._loop = asyncio.get_running_loop()
        scopes = Scopes(settings.scopes)
        self._networks = OwnNetworks(settings.own).now()
        place = Place(self._networks, scopes, settings.announce_on_link)
        pace = Pace(settings.interval_floor, settings.bandwidth, settings.forget_after)
        self._core = SdCore(Directory(place, os.urandom, pace))
        self._listeners = _listeners(settings, self._networks, scopes)
        self._state = settings.state / STATE
        self._writer = ThreadPoolExecutor(1, "state")  # the disk may take its time
        endpoint = Endpoint(
            subjects.SD,
            assembly.credentials.id.token,
            assembly.credentials,
            assembly.trust,
            self._core,
            os.urandom,
            telemetry=assembly.telemetry,
        )
        bus = assembly.bus(bus_name(subjects.SD, endpoint.caller))
        self._running = RunningService(endpoint, bus, self._perform)

    async def start(self) -> None:
        """Takes in what an earlier process wrote down, listens to the network, then serves."""
        self._recover()
        for listener in self._listeners.values():
            self._loop.add_reader(listener, self._read, listener)
        await self._running.start()

    async def close(self) -> None:
        """Ends. What is announced is forgotten by others when it is not repeated."""
        for listener in self._listeners.values():
            self._loop.remove_reader(listener)
            listener.close()
        await self._running.close()
        self._writer.shutdown()
        self._write(self._core.state(system_now()).state)
        self._assembly.close()

    def _read(self, listener: MulticastListener) -> None:
        for _ in range(BURST):
            heard = listener.receive()
            if heard is None:
                return
            self._running.feed(SapArrived(heard.payload, heard.source, heard.group))

    def _perform(self, effect: Any) -> None:
        match effect:
            case SendSap():
                self._send(effect)
            case KeepState():
                self._running.spawn(self._keep(effect.state))
            case _:
                raise TypeError(effect)

    def _send(self, effect: SendSap) -> None:
        listener = self._listeners[self._networks.named[effect.network].address]
        try:
            listener.send(effect.payload, effect.address)
        except Refused:  # it is repeated
            self._running.endpoint.counters["sap.unsent"] += 1

    # ---- the state's file

    def _recover(self) -> None:
        self._state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with self._state.open("rb") as file:
                raw = file.read(LARGEST_STATE + 1)
        except FileNotFoundError:
            return
        except OSError:
            self._running.endpoint.counters["state.unreadable"] += 1
            return
        self._running.feed(Recovered(raw))

    async def _keep(self, state: bytes) -> None:
        await self._loop.run_in_executor(self._writer, self._write, state)

    def _write(self, state: bytes) -> None:
        try:
            write_atomically(self._state, state)
        except Refused:  # what is announced is asked for again by the hosts, what was heard is said again
            self._running.endpoint.counters["state.unwritten"] += 1
