"""What the demo plays on: a laboratory of hosts, a domain of processes, and a connection for each participant."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from mcsa.demo.options import Options
from mcsa.demo.telling import StepError
from mcsa.domain.files import DomainFiles
from mcsa.domain.processes import INFRASTRUCTURE, DomainProcesses
from mcsa.laboratory.capture import Capture
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.sdk.conference import Conference, Connection, connect
from mcsa.shell.telemetry import OpenTelemetry, set_up_telemetry
from mcsa.v1 import csm_pb2 as wire
from mcsa.v1.msm_pb2 import GroupState

OUTSIDER = "mallory"
HOSTILE = "mcsa.demo.hostile"


@dataclass
class Player:
    """A participant: a user on a host."""

    user: str
    host: Host
    connection: Connection
    conference: Conference | None = None
    heard: list[str] = field(default_factory=list)
    listening: asyncio.Task[None] | None = None

    @property
    def joined(self) -> Conference:
        """The conference that this player is in."""
        if self.conference is None:
            raise StepError(f"{self.user} is in no conference")
        return self.conference

    async def listen(self) -> None:
        """Keeps what the others say."""
        async for said in self.joined:
            self.heard.append(said.text)


class Stage:
    """An asynchronous context manager inside of `hosts`: everything runs inside, nothing is left after."""

    def __init__(self, options: Options, folder: Path, domain: str = "demo.example") -> None:
        self.options = options
        self.folder = folder
        names = (*options.host_names, OUTSIDER, INFRASTRUCTURE)
        self.laboratory = Laboratory(names, (INFRASTRUCTURE,))
        self.files = DomainFiles(folder / "domain", domain)
        self.traces = folder / "traces"
        self.figures: dict[str, Any] = {}
        self.players: dict[str, Player] = {}
        self.conference_id = b""
        self._exits, self._hosts = AsyncExitStack(), ExitStack()
        victim_host = options.host_names[-1]
        self.processes = DomainProcesses(
            self.laboratory,
            self.files,
            [*options.host_names, OUTSIDER],
            modules={f"msm-{victim_host}": HOSTILE},
            trace=self.traces,
            sd_options={"interval_floor": 0.5},
            ipv6=options.ipv6,
            msm_options={"driver": options.driver},
        )
        self.wire: Capture | None = None
        self.telemetry: OpenTelemetry | None = None

    @contextmanager
    def hosts(self) -> Iterator[None]:
        """Hosts and services are there inside. They start before the event loop does, which wouldn't hear Ctrl-C."""
        with self._hosts:
            self._hosts.enter_context(self.laboratory)
            self._hosts.enter_context(self.processes)
            if self.laboratory.kind != "loopback":
                self.wire = Capture(self.laboratory.bridge, self.folder / "wire.pcap", self.processes.broker.port)
            yield

    async def __aenter__(self) -> Self:
        try:
            self.telemetry = set_up_telemetry("demo", "demo", {"MCSA_TRACE_DIR": str(self.traces)})
            for user, host in zip(self.options.user_names, self.options.host_names, strict=True):
                await self.add_player(user, host)
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for player in self.players.values():
            if player.listening is not None:
                player.listening.cancel()
        await self._exits.aclose()
        self._hosts.close()  # now, since threads of the loop may wait for programs there

    async def add_player(self, user: str, host: str) -> Player:
        """A user of the domain, connected to the CSM of a host."""
        key = self.files.credentials_path("user", user)
        connection = connect(user=key, socket=self.files.sockets(host) / "csm.sock")
        await self._exits.enter_async_context(connection)
        player = Player(user, self.laboratory[host], connection)
        self.players[user] = player
        return player

    @property
    def coordinator(self) -> Player:
        """Who convenes."""
        return self.players[self.options.user_names[0]]

    @property
    def receivers(self) -> list[Player]:
        """All other participants."""
        return [self.players[user] for user in self.options.user_names[1:]]

    @property
    def victim(self) -> Player:
        """Who will be thrown out."""
        return self.receivers[-1]

    @property
    def staying(self) -> list[Player]:
        """Who stays, the Coordinator first."""
        return [self.coordinator, *self.receivers[:-1]]

    def user_id(self, name: str) -> str:
        """The SPIFFE ID of a user."""
        return f"spiffe://{self.files.domain}/user/{name}"

    async def groups(self, player: Player) -> dict[str, GroupState]:
        """What the MSM of a player's host tells of its groups, by name."""
        asked = wire.ConferenceServiceDescribeGroupsRequest()
        response = await player.connection.client.ask("describe-groups", asked)
        return {group.group.name: group for group in response.groups}

    def traced(self, name: str) -> TracedStep:
        """A span around a step: what is asked inside is part of its trace."""
        assert self.telemetry is not None
        return TracedStep(self.telemetry, name)

    def start(self, host: Host, module: str, *arguments: str) -> subprocess.Popen[str]:
        """A program of ours on a host, with its output for us."""
        argv = [sys.executable, "-m", module, *arguments]
        return host.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))

    async def output(self, host: Host, module: str, *arguments: str) -> str:
        """What a program of ours on a host writes; `StepError` with its complaint where it fails."""
        process = self.start(host, module, *arguments)
        written, complaint = await asyncio.to_thread(process.communicate)
        if process.returncode:
            raise StepError(f"{module} failed: {complaint.strip()[-400:]}")
        return written


class TracedStep:
    """Makes a span OpenTelemetry's current one."""

    def __init__(self, telemetry: OpenTelemetry, name: str) -> None:
        self._span = telemetry.span(name)
        self._token: Any = None

    def __enter__(self) -> Self:
        if self._span.traceparent is not None:
            _, trace_id, span_id, _ = self._span.traceparent.split("-")
            remote = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(1))
            self._token = otel_context.attach(trace.set_span_in_context(NonRecordingSpan(remote)))
        return self

    def __exit__(self, kind: Any, error: Any, at: Any) -> None:
        if self._token is not None:
            otel_context.detach(self._token)
        self._span.__exit__(kind, error, at)


async def until(happened: Callable[[], Awaitable[bool]], within: float, what: str) -> float:
    """Waits until it has happened; the seconds that took. `StepError` where it doesn't."""
    began_at = time.monotonic()
    while not await happened():
        if time.monotonic() - began_at > within:
            raise StepError(f"{what} did not happen within {within:g} s")
        await asyncio.sleep(0.02)
    return time.monotonic() - began_at
