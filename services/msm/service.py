"""The MSM as a process: its core on the bus, its driver on the network."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from mcsa import subjects
from mcsa.endpoint import Endpoint
from mcsa.errors import Refused
from mcsa.networks import Network
from mcsa.shell.assembly import Assembly
from mcsa.shell.bus import BusUnavailable, End, Headers
from mcsa.shell.cores import Cores
from mcsa.shell.limits import check_open_files
from mcsa.shell.own_address import NetworkWatch, OwnNetworks
from mcsa.shell.service import RunningService
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.agent import AgentAtWork
from services.msm.config import MsmSettings
from services.msm.core import MsmCore
from services.msm.core_groups import Settings
from services.msm.drivers import Driver, DriverSettings, GroupAtWork, driver_named
from services.msm.drivers.interface import FILES_OF_A_GROUP, Tell
from services.msm.drivers.relay import RelayedGroup
from services.msm.events import (
    CloseGroup,
    Distribute,
    GroupFailed,
    GroupMessage,
    GroupOpened,
    NetworkChanged,
    OpenGroup,
    OpenSending,
    StartRelaying,
    StopDistributing,
    StopRelaying,
    UnknownEpochSeen,
)
from services.msm.gpad import Accepted
from services.msm.packet_processes import PacketProcesses
from services.msm.path import GroupPath
from services.msm.withdrawal_key import load_withdrawal_key

log = structlog.get_logger()


class MsmService:
    """See the module."""

    def __init__(self, settings: MsmSettings) -> None:
        self._settings = settings
        self._own = OwnNetworks(settings.own, awaited=True)
        self._networks = self._own.now()
        self._watches: list[NetworkWatch] = []
        loopback = {line.group: (line.send, line.deliver) for line in settings.loopback}
        self._driver_settings = DriverSettings(
            self._networks,
            settings.sockets,
            self.make_path,
            offload=settings.offload,
            cores=Cores(settings.cores),
            interface=settings.interface,
            loopback=loopback,
        )
        self._driver = self._make_driver(settings)
        self._assembly = Assembly("msm", settings)
        self._groups: dict[bytes, GroupAtWork] = {}
        self._addresses: dict[bytes, str] = {}  # of those that this host is a member of
        self._network_of: dict[bytes, str] = {}  # name of the network that a group is in, by the group's id
        self._agents: dict[bytes, AgentAtWork] = {}  # by the leaf's id
        self._distributes: set[bytes] = set()  # groups for whose newcomers this host is there
        self._shares: dict[bytes, End] = {}  # those that it listens for
        self._sharing = asyncio.Lock()
        credentials = self._assembly.credentials
        accepts = [Accepted(line.authorizer, line.network, line.through) for line in settings.accepts]
        key = load_withdrawal_key(settings.state / "withdrawal.key")
        core_settings = Settings(self._networks, settings.directory, accepts, settings.hpke_suite, key)
        core = self.make_core(core_settings)
        endpoint = Endpoint(
            subjects.MSM,
            credentials.id.token,
            credentials,
            self._assembly.trust,
            core,
            os.urandom,
            distributes=True,
            telemetry=self._assembly.telemetry,
        )
        self._running = RunningService(endpoint, self._assembly.bus(f"msm-{credentials.id.token}"), self._perform)

    def make_core(self, settings: Settings) -> MsmCore:
        """The core; a test that wants a hostile one overrides this."""
        assembly = self._assembly
        return MsmCore(
            assembly.credentials, assembly.trust, os.urandom, settings, self._path_counters, self._largest_payload
        )

    def _make_driver(self, settings: MsmSettings) -> Driver:
        if settings.packet_processes:
            return PacketProcesses(settings.driver, self._driver_settings, settings.packet_processes)
        return driver_named(settings.driver)(self._driver_settings)

    def make_path(self, domain: str, group: GroupDescription) -> GroupPath:
        """A group's packet path; likewise."""
        return GroupPath(domain, group)

    async def start(self) -> None:
        """Serves the host's CSM, and listens to all groups' updates."""
        self._settings.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._running.start()
        self._watches = self._own.watch(self._network_changed)
        await self._running.listen(f"{subjects.PREFIX}.{subjects.GROUP}.*.*", self._group_told)

    async def close(self) -> None:
        """Ends; the groups' memberships end with the leases, or are left by the CSM before."""
        for watch in self._watches:
            watch.close()
        await self._running.close()
        for group in self._groups.values():
            group.close()
        self._driver.close(set(self._addresses.values()))
        self._assembly.close()

    def _network_changed(self, name: str, network: Network) -> None:
        """Sockets on an interface that was gone, or under another address, are dead: where there is a network again,
        all its groups are joined anew."""
        log.info("network", name=name, address=network.address, trouble=network.trouble)
        self._networks = self._networks.changed(name, network)
        self._running.feed(NetworkChanged(name, network))
        if network.trouble:
            return
        self._driver_settings = replace(self._driver_settings, networks=self._networks)
        self._driver.move(self._networks)
        for group_id, group in self._groups.items():
            if self._network_of[group_id] == name:
                group.move(network.address, partial(self._not_moved, name, network))

    def _not_moved(self, name: str, network: Network, refused: Refused) -> None:
        self._running.feed_from_thread(NetworkChanged(name, replace(network, trouble=refused.sentence)))

    def _group_told(self, subject: str, raw: bytes, _headers: Headers) -> None:
        try:
            _, _, group = subjects.parse_subject(subject)
            group_id = bytes.fromhex(group)
        except ValueError:  # the broker's word
            self._running.endpoint.counters["rejected.subject"] += 1
            return
        self._running.feed(GroupMessage(group_id, raw))

    def _largest_payload(self, group_id: bytes) -> int:
        group = self._groups.get(group_id)
        return 0 if group is None else group.largest_payload

    def _path_counters(self, group_id: bytes) -> Mapping[str, int]:
        group = self._groups.get(group_id)
        return {} if group is None else group.counters()

    def _perform(self, effect: Any) -> None:
        match effect:
            case OpenGroup():
                self._open(effect, self._driver.open)
                if effect.group.group_id in self._groups:  # else there is nothing to stay closed when this MSM ends
                    self._addresses[effect.group.group_id] = effect.group.address
            case OpenSending():  # with whatever driver: there is nothing to bring to applications
                self._open(effect, partial(RelayedGroup, self._driver_settings, send_only=True))
            case StartRelaying():
                agent = AgentAtWork(self._groups[effect.backbone_id].engine, self._groups[effect.leaf_id].engine)
                self._agents[effect.leaf_id] = agent
                agent.start()
            case StopRelaying():
                self._agents.pop(effect.leaf_id).stop()
            case CloseGroup():
                self._addresses.pop(effect.group_id, None)
                group = self._groups.pop(effect.group_id, None)
                self._network_of.pop(effect.group_id, None)
                if group is not None:
                    group.close()
            case Distribute():
                self._distributes.add(effect.group_id)
                self._running.spawn(self._share(effect.group_id))
            case StopDistributing():
                self._distributes.discard(effect.group_id)
                self._running.spawn(self._share(effect.group_id))
            case _:
                group = self._groups.get(effect.group_id)
                if group is not None:
                    group.control(effect)

    async def _share(self, group_id: bytes) -> None:
        """Listens to what a group's newcomers ask, or no longer, as it is wanted when this comes to it."""
        async with self._sharing:
            wanted, end = group_id in self._distributes, self._shares.get(group_id)
            if end is not None and not wanted:
                del self._shares[group_id]
                await end()
            elif end is None and wanted:
                try:
                    subject = subjects.distributor_subject("*", group_id)
                    self._shares[group_id] = await self._running.share(subject)
                except BusUnavailable as unavailable:  # the broker's configuration: newcomers go to the Authorizer
                    self._running.endpoint.counters[f"bus.{unavailable.rule}"] += 1

    def _tell_from_path(self, event: Any) -> None:
        """From a driver's thread. Of what packets bring, as many as anybody sends, some may be lost: it is repaired."""
        self._running.feed_from_thread(event, droppable=isinstance(event, GroupMessage | UnknownEpochSeen))

    def _open(
        self, effect: OpenGroup | OpenSending, open_: Callable[[str, GroupDescription, Tell], GroupAtWork]
    ) -> None:
        tell, group_id = self._running.feed_from_thread, effect.group.group_id
        try:
            check_open_files(FILES_OF_A_GROUP, f"the group {effect.group.name}")
            group = open_(effect.domain, effect.group, self._tell_from_path)
        except Refused as refused:
            tell(GroupFailed(group_id, refused.sentence))
            return
        self._groups[group_id] = group
        self._network_of[group_id] = self._networks.name_of(effect.group.address)
        tell(GroupOpened(group_id, group.socket_path))
