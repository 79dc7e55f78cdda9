"""The Authorizer as a process: its core on the bus, its logs in JetStream, its own sender on the multicast."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any

import structlog

from mcsa import subjects
from mcsa.addresses import parse_address
from mcsa.broker import bus_name, subordinate_name
from mcsa.durable_log import Conflict
from mcsa.endpoint import Endpoint
from mcsa.errors import Refused
from mcsa.esp.checksum import inner_checksum
from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.suite import suite_named
from mcsa.identity import SpiffeId
from mcsa.shell.assembly import Assembly
from mcsa.shell.bus import Bus, Headers
from mcsa.shell.clock import system_now
from mcsa.shell.multicast import ESP_PORT, GroupSocket
from mcsa.shell.nkeys import load_nkey
from mcsa.shell.own_address import OwnNetworks
from mcsa.shell.requests import BusUnavailable
from mcsa.shell.run import crash
from mcsa.shell.service import RunningService
from mcsa.shell.storage_key import StorageKeyAtRest
from mcsa.shell.stream import LogStream
from mcsa.updates import PORT as UPDATE_PORT
from mcsa.v1.types_pb2 import GroupDescription
from services.authorizer.addresses import AddressPools
from services.authorizer.config import AuthorizerSettings, HomeSettings
from services.authorizer.core import AuthorizerCore, Settings
from services.authorizer.events import (
    Alarm,
    Append,
    Appended,
    AskHome,
    Decided,
    DropSender,
    EndLog,
    Fenced,
    HomeTold,
    InstallSender,
    Load,
    SendToGroup,
    TakeSnapshot,
    Tell,
)
from services.authorizer.home import home_endpoint, told_by
from services.authorizer.logs import AGAIN_AFTER, Logs
from services.authorizer.rules import DEFAULT_RULES, Rules

audit = structlog.get_logger()

STORAGE_KEY = "storage.key"  # in the folder of the state


class AuthorizerService:
    """See the module."""

    def __init__(self, settings: AuthorizerSettings) -> None:
        self._settings = settings
        self._networks = OwnNetworks(settings.own).now()
        self._assembly = assembly = Assembly("authorizer", settings)
        text = settings.rules.read_text() if settings.rules else DEFAULT_RULES
        self._core = AuthorizerCore(
            assembly.credentials,
            assembly.trust,
            os.urandom,
            Settings(
                AddressPools(settings.pool, settings.source_specific_pools, tuple(settings.own)),
                self._networks,
                distributors=() if settings.rules else settings.distributors,
                homes=[home.authorizer for home in settings.homes],
                subordinates=settings.subordinates,
            ),
            Rules(assembly.credentials.id.domain, text, settings.creators),
        )
        endpoint = Endpoint(
            subjects.AUTHORIZER,
            assembly.credentials.id.token,
            assembly.credentials,
            assembly.trust,
            self._core,
            os.urandom,
            peer_callers={SpiffeId.parse(name).domain: ("authorizer",) for name in settings.subordinates},
            telemetry=assembly.telemetry,
        )
        bus = assembly.bus(bus_name(subjects.AUTHORIZER, endpoint.caller))
        self._running = RunningService(endpoint, bus, self._perform)
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = LogStream(bus, assembly.credentials.id.token)
        self._logs = Logs(store, StorageKeyAtRest(settings.state / STORAGE_KEY), os.urandom, asyncio.sleep)
        self._homes = {home.authorizer: self._home(home) for home in settings.homes}
        self._sockets: dict[bytes, GroupSocket] = {}
        self._senders: dict[tuple[bytes, int], OutboundAssociation] = {}

    async def start(self) -> None:
        """Takes over what its logs tell of, and serves."""
        await self._running.start(first=self._take_over)
        for home, running in self._homes.items():
            self._running.spawn(self._reach(home, running))

    def _home(self, home: HomeSettings) -> RunningService:
        """Our place on a peer's bus."""
        assembly = self._assembly
        endpoint = home_endpoint(home.authorizer, assembly.credentials, assembly.trust, os.urandom, assembly.telemetry)
        bus = Bus(home.bus, subordinate_name(assembly.credentials.id), load_nkey(home.nkey), on_crash=crash)
        return RunningService(endpoint, bus, self._running.feed)

    async def _reach(self, home: str, running: RunningService) -> None:
        """A peer's broker may be away for long; it is tried on, and nothing else waits for it."""
        try:
            await running.start()
        except BusUnavailable as unavailable:
            audit.warning("home", home=home, sentence=unavailable.sentence)

        def told(subject: str, raw: bytes, _headers: Headers) -> None:
            _, _, group = subjects.parse_subject(subject)
            with suppress(ValueError):  # the broker's word
                self._running.feed(HomeTold(home, bytes.fromhex(group), raw))

        await running.listen(told_by(home), told)

    async def _take_over(self) -> None:
        logs = await self._logs.load()
        self._running.perform_effects(self._core.restore(logs, system_now()))

    async def close(self) -> None:
        """Ends."""
        for running in self._homes.values():
            await running.close()
        await self._running.close()
        for socket in self._sockets.values():
            socket.close()
        self._assembly.close()

    def _perform(self, effect: Any) -> None:
        match effect:
            case InstallSender():
                self._install(effect)
            case DropSender():
                self._drop(effect.group_id, effect.epoch)
            case SendToGroup():
                self._send(effect)
            case Tell():
                subject = subjects.group_subject(self._running.endpoint.caller, effect.group_id)
                self._running.publish_soon(subject, effect.payload, effect.traceparent)
            case Append():
                self._running.spawn(self._append(effect))
            case TakeSnapshot():
                self._running.spawn(self._take_snapshot(effect))
            case EndLog():
                self._running.spawn(self._logs.end(effect.log))
            case Load():
                self._running.spawn(self._load(effect))
            case AskHome():
                self._homes[effect.home].perform_effects([effect.request])
            case Alarm():
                audit.error("alarm", what=effect.what, resource=effect.resource, sentence=effect.sentence)
                self._running.endpoint.counters[f"alarm.{effect.what}"] += 1
            case Decided():
                audit.info(
                    "decided",
                    subject=effect.subject,
                    action=effect.action,
                    resource=effect.resource,
                    allowed=effect.allowed,
                    rule=effect.rule,
                )
            case _:
                raise TypeError(effect)

    async def _append(self, effect: Append) -> None:
        try:
            await self._logs.append(effect.log, effect.plaintext, whole=effect.whole, marked=effect.marked)
        except Conflict as conflict:
            self._running.feed(Fenced(effect.log, conflict.rule == "appended"))
        else:
            self._running.feed(Appended(effect.log))

    async def _take_snapshot(self, effect: TakeSnapshot) -> None:
        try:
            await self._logs.take_snapshot(effect.log, effect.plaintext)
        except Conflict as conflict:
            self._running.feed(Fenced(effect.log, conflict.rule == "appended"))

    async def _load(self, effect: Load) -> None:
        while True:
            try:
                loaded = await self._logs.read(effect.log)
                break
            except BusUnavailable:
                await asyncio.sleep(AGAIN_AFTER)
        self._running.feed(loaded)

    def _drop(self, group_id: bytes, epoch: int) -> None:
        self._senders.pop((group_id, epoch), None)
        if not any(group == group_id for group, _ in self._senders):  # the group has ended
            socket = self._sockets.pop(group_id, None)
            if socket is not None:
                socket.close()

    def _install(self, effect: InstallSender) -> None:
        group = effect.group
        suite = suite_named(group.policy.suite)
        key = derive_traffic_key(effect.key, effect.domain, group.group_id, effect.epoch, suite, effect.sender_id)
        try:
            own_address = self._networks.of(group.address).address
            if group.group_id not in self._sockets:
                self._sockets[group.group_id] = self._open_socket(group, own_address)
        except Refused as refused:  # the bus does alone
            self._running.endpoint.counters["multicast.no-socket"] += 1
            audit.warning("multicast.no-socket", group=group.name, why=refused.sentence)
            return
        checksum = inner_checksum(own_address, group.address)
        self._senders[group.group_id, effect.epoch] = OutboundAssociation(key, checksum)

    def _open_socket(self, group: GroupDescription, own_address: str) -> GroupSocket:
        raw_esp = group.policy.wire == "esp"
        return GroupSocket(
            group.address,
            0 if raw_esp else ESP_PORT,
            own_address,
            ttl=group.ttl or 1,
            bind_group=False,
            loop=parse_address(own_address).is_loopback,
            fragment=False,  # what is too long for a datagram goes in parts (`mcsa/update_parts.py`)
            raw_esp=raw_esp,
        )

    def _send(self, effect: SendToGroup) -> None:
        """By multicast beside the bus: members survive a broker's outage. Where the network does not carry it, the bus
        does alone."""
        sender = self._senders.get((effect.group_id, effect.epoch))
        socket = self._sockets.get(effect.group_id)
        if sender is None or socket is None:
            return
        try:
            socket.send(sender.seal(effect.payload, UPDATE_PORT, UPDATE_PORT))
        except Refused:
            self._running.endpoint.counters["multicast.unsent"] += 1
