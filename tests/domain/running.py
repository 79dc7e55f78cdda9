"""A domain of real processes on real packets, for tests: a laboratory, its services, users that are connected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from mcsa.domain.files import DomainFiles
from mcsa.domain.processes import INFRASTRUCTURE, DomainProcesses
from mcsa.laboratory.namespaces import Laboratory
from mcsa.laboratory.routed import RoutedLaboratory
from mcsa.sdk.conference import Conference, Connection, connect
from mcsa.v1 import csm_pb2 as wire
from mcsa.v1.msm_pb2 import GroupState
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy

HOSTS = {"alice": "alpha", "bob": "beta", "carol": "gamma"}
TITLE = "a conference"


class RunningDomain:
    """An asynchronous context manager. `modules` replaces services by others."""

    def __init__(
        self,
        folder: Path,
        users: tuple[str, ...] = ("alice", "bob"),
        modules: dict[str, str] | None = None,
        files: DomainFiles | None = None,
        *,
        ipv6: bool = False,
        beyond: tuple[str, ...] = (),
        msm_options: dict[str, Any] | None = None,
        laboratory: Laboratory | None = None,
        networks: Mapping[str, Sequence[Mapping[str, str]]] | None = None,
    ) -> None:
        """`beyond`: users whose hosts are in a second subnet, behind a multicast router. `laboratory`: in place of one
        that is made; then `networks` are those of its hosts (see `DomainProcesses`)."""
        self.users = users
        hosts = [HOSTS[user] for user in users]
        far = [HOSTS[user] for user in beyond]
        near = [*(host for host in hosts if host not in far), INFRASTRUCTURE]
        routed = RoutedLaboratory(near, far, (INFRASTRUCTURE,)) if far else None
        self.laboratory = laboratory or routed or Laboratory(near, (INFRASTRUCTURE,))
        self.files = files or DomainFiles(folder / "domain", "test.example")
        self.processes = DomainProcesses(
            self.laboratory,
            self.files,
            hosts,
            modules=modules,
            sd_options={"interval_floor": 0.5},
            ipv6=ipv6,
            msm_options=msm_options,
            networks=networks,
        )
        self.connections: dict[str, Connection] = {}
        self.conferences: dict[str, Conference] = {}
        self.heard: dict[str, list[str]] = {}
        self._exits = AsyncExitStack()
        self._listening: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        try:
            self._exits.enter_context(self.laboratory)
            self._exits.enter_context(self.processes)
            for user in self.users:
                await self.reconnect(user)
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._listening:
            task.cancel()
        await self._exits.aclose()

    async def reconnect(self, user: str) -> Connection:
        """A connection to the CSM of the user's host."""
        key = self.files.credentials_path("user", user)
        connection = connect(user=key, socket=self.files.sockets(HOSTS[user]) / "csm.sock")
        await self._exits.enter_async_context(connection)
        self.connections[user] = connection
        return connection

    def id_of(self, user: str) -> str:
        return f"spiffe://{self.files.domain}/user/{user}"

    # ---- conferences

    async def convene(
        self,
        *acceptable: str,
        wait: float = 60.0,
        media: bool = False,
        one_sender: bool = False,
        policy: GroupPolicy | None = None,
        audio_address: str = "",
    ) -> Conference:
        """Alice's; the call goes out when all that are acceptable have joined."""
        audio = GroupDescription(
            name="audio", media="audio", format="96", port=5004, one_sender=one_sender, address=audio_address
        )
        groups = [audio] if media or audio_address else []
        names = [self.id_of(user) for user in acceptable]
        conference = await self.connections["alice"].convene(
            TITLE, acceptable_users=names, wait=wait, media=groups, policy=policy
        )
        self._in("alice", conference)
        return conference

    async def join(self, user: str) -> Conference:
        await self.until(lambda: self.sees(user), 10.0)
        conference = await self.connections[user].join(TITLE)
        self._in(user, conference)
        return conference

    async def attach(self, user: str) -> Conference:
        """Again, after a restart of its CSM."""
        conference = await self.connections[user].attach(self.conferences["alice"].id)
        self._in(user, conference)
        return conference

    async def gather(
        self,
        *,
        media: bool = False,
        one_sender: bool = False,
        policy: GroupPolicy | None = None,
        audio_address: str = "",
    ) -> None:
        """All users in one conference, with a key."""
        await self.convene(*self.users, media=media, one_sender=one_sender, policy=policy, audio_address=audio_address)
        for user in self.users[1:]:
            await self.join(user)
        await self.keyed()

    async def keyed(self, *users: str, after: int = 0, within: float = 20.0) -> int:
        """Until these (all, unless told) hold one key of a later epoch; which."""

        async def agreed() -> bool:
            states = [self.conferences[user].state for user in users or self.users]
            epochs = {state.key_epoch for state in states}
            return len(epochs) == 1 and min(epochs) > after and all(state.state == "active" for state in states)

        await self.until(agreed, within)
        return self.conferences[(users or self.users)[0]].state.key_epoch

    async def sees(self, user: str) -> bool:
        sessions = await self.connections[user].sessions()
        return any(session.title == TITLE and session.verified for session in sessions)

    async def hears(self, user: str, line: str, within: float = 10.0) -> None:
        async def heard() -> bool:
            return line in self.heard[user]

        await self.until(heard, within)

    async def groups(self, user: str) -> dict[str, GroupState]:
        """What the host's MSM tells, by group name."""
        asked = wire.ConferenceServiceDescribeGroupsRequest()
        response = await self.connections[user].client.ask("describe-groups", asked)
        return {group.group.name: group for group in response.groups}

    def _in(self, user: str, conference: Conference) -> None:
        self.conferences[user] = conference
        heard = self.heard.setdefault(user, [])

        async def listen() -> None:
            async for message in conference:
                heard.append(message.text)

        self._listening.append(asyncio.create_task(listen()))

    @staticmethod
    async def until(happened: Callable[[], Awaitable[Any]], within: float) -> None:
        """`TimeoutError` where it doesn't happen."""
        deadline = time.monotonic() + within
        while not await happened():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {within:g} s")
            await asyncio.sleep(0.05)
