"""The Authorizer as a process: its core on the bus, its own sender on the multicast, conferences on disk, sealed."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any

import structlog

from mcsa import subjects
from mcsa.broker import bus_name
from mcsa.endpoint import Endpoint
from mcsa.errors import Refused
from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.suite import suite_named
from mcsa.keys import StorageKey
from mcsa.shell.assembly import Assembly
from mcsa.shell.clock import system_now
from mcsa.shell.multicast import ESP_PORT, GroupSocket
from mcsa.shell.sealed_file import open_sealed_file, read_private_file, seal_file, write_atomically
from mcsa.shell.service import RunningService
from mcsa.updates import PORT as UPDATE_PORT
from services.authorizer.config import AuthorizerSettings
from services.authorizer.core import AuthorizerCore, Settings
from services.authorizer.events import Decided, DropSender, InstallSender, Remember, SendToGroup, Tell
from services.authorizer.rules import DEFAULT_RULES, Rules

audit = structlog.get_logger()

CONFERENCE_LABEL = "mcsa authorizer conference v1"


class AuthorizerService:
    """See the module."""

    def __init__(self, settings: AuthorizerSettings) -> None:
        self._settings = settings
        self._assembly = assembly = Assembly("authorizer", settings)
        text = settings.rules.read_text() if settings.rules else DEFAULT_RULES
        self._core = AuthorizerCore(
            assembly.credentials,
            assembly.trust,
            os.urandom,
            Settings(settings.pool, settings.address),
            Rules(text),
        )
        endpoint = Endpoint(
            subjects.AUTHORIZER,
            assembly.credentials.id.token,
            assembly.credentials,
            assembly.trust,
            self._core,
            os.urandom,
            telemetry=assembly.telemetry,
        )
        bus = assembly.bus(bus_name(subjects.AUTHORIZER, endpoint.caller))
        self._running = RunningService(endpoint, bus, self._perform)
        self._conferences = Conferences(settings.state / "authorizer")
        self._sockets: dict[bytes, GroupSocket] = {}
        self._senders: dict[tuple[bytes, int], OutboundAssociation] = {}

    async def start(self) -> None:
        """Takes up the conferences it knows, with new keys, and serves."""
        self._running.perform_effects(self._core.restore(self._conferences.load(), system_now()))
        await self._running.start()

    async def close(self) -> None:
        """Ends."""
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
            case Remember():
                self._conferences.save(effect.conference_id, effect.state)
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

    def _drop(self, group_id: bytes, epoch: int) -> None:
        self._senders.pop((group_id, epoch), None)
        if not any(group == group_id for group, _ in self._senders):  # the group has ended
            socket = self._sockets.pop(group_id, None)
            if socket is not None:
                socket.close()

    def _install(self, effect: InstallSender) -> None:
        group = effect.group
        suite = suite_named(group.policy.suite)
        domain = self._assembly.credentials.id.domain
        key = derive_traffic_key(effect.key, domain, group.group_id, effect.epoch, suite, effect.sender_id)
        self._senders[group.group_id, effect.epoch] = OutboundAssociation(key)
        loopback = ipaddress.ip_address(self._settings.address).is_loopback
        if group.group_id not in self._sockets:
            self._sockets[group.group_id] = GroupSocket(
                group.address, ESP_PORT, self._settings.address, ttl=group.ttl or 1, bind_group=False, loop=loopback
            )

    def _send(self, effect: SendToGroup) -> None:
        """By multicast beside the bus: members survive a broker's outage. Where the network does not carry it, the bus
        does alone."""
        sender = self._senders.get((effect.group_id, effect.epoch))
        if sender is None:
            return
        try:
            self._sockets[effect.group_id].send(sender.seal(effect.payload, UPDATE_PORT, UPDATE_PORT))
        except Refused:
            self._running.endpoint.counters["multicast.unsent"] += 1


class Conferences:
    """Conferences on disk, one sealed file each. They hold no keys; access lists are nobody else's business."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "conferences"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_file = folder / "storage.key"
        if not key_file.exists():
            write_atomically(key_file, os.urandom(StorageKey.size))
        self._key = StorageKey(read_private_file(key_file))

    def save(self, conference_id: bytes, state: bytes) -> None:
        """Durable once this returns; empty bytes remove it."""
        path = self._folder / conference_id.hex()
        if state:
            seal_file(path, state, self._key, f"{CONFERENCE_LABEL} {path.name}")
        else:
            path.unlink(missing_ok=True)

    def load(self) -> list[bytes]:
        """All of them."""
        return [
            open_sealed_file(path, self._key, f"{CONFERENCE_LABEL} {path.name}")
            for path in sorted(self._folder.iterdir())
            if len(path.name) == 32
        ]
