"""The link to the broker: a connection at a time, and another one after it, without end. See `mcsa.shell.bus`."""

from __future__ import annotations

import asyncio
import random
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import nats.errors

from mcsa.broker import inbox_prefix
from mcsa.shell.connection import Connection
from mcsa.shell.log import CountedLog
from mcsa.shell.nkeys import NkeySeed
from mcsa.shell.requests import BusUnavailable, denied

_CANCEL_AGAIN_AFTER = 0.2  # seconds
Attach = Callable[[Connection], Awaitable[None]]
_DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')  # nats-py: in lower case


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a bus is. Seconds, but where it says otherwise."""

    connect_within: float = 5.0
    retry_after: float = 0.25  # doubles up to the next; varied by a half, so that hosts don't come in step
    retry_at_most: float = 5.0
    ping_every: float = 5.0  # two missed ones are the end of a connection
    drain_within: float = 5.0
    handlers: int = 256  # of one subscription at once
    queue: int = 4096  # messages of one subscription that wait for a handler
    backlog: int = 1 << 20  # bytes that wait to be sent; an envelope is half of that at most


class Link:
    """Keeps one identity connected. `on_up`, `on_lost` and `on_denied(subject)` tell what happens."""

    def __init__(
        self, servers: Sequence[str], name: str, seed: NkeySeed, tls: ssl.SSLContext | None, pace: Pace, log: CountedLog
    ) -> None:
        self.name = name
        self.on_up: Callable[[], Awaitable[None]] | None = None
        self.on_lost: Callable[[], None] | None = None
        self.on_denied: Callable[[str], None] | None = None
        self._servers = list(servers)
        self._seed = seed
        self._tls = tls
        self._pace = pace
        self._log = log
        self._up = asyncio.Event()
        self._connection: Connection | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._attached: list[Attach] = []
        self._attaching = asyncio.Lock()
        self._denied: set[str] = set()
        self._last_error = ""

    @property
    def up(self) -> bool:
        """Connected, and all that was attached is in place."""
        return self._up.is_set()

    async def start(self, within: float) -> None:
        """Connects, now and for ever; `BusUnavailable("down")` where the first time takes longer than `within`."""
        self._supervisor = asyncio.create_task(self._supervise())
        try:
            await asyncio.wait_for(self._up.wait(), within)
        except TimeoutError:
            raise self._down() from None

    async def attach(self, attach: Attach) -> None:
        """Has `attach` called with this connection and each that follows. `BusUnavailable("denied")` where the
        broker doesn't let it subscribe to something."""
        async with self._attaching:
            self._attached.append(attach)
            if self._connection is None:
                return
            self._denied.clear()
            with suppress(nats.errors.Error, OSError):  # it was lost meanwhile: the next one will have it
                await attach(self._connection)
                await self._connection.flush()
            if self._denied:
                self._attached.remove(attach)
                raise denied(self.name, "subscribe", ", ".join(sorted(self._denied)))

    def detach(self, attach: Attach) -> None:
        """The connections that follow go without it."""
        if attach in self._attached:
            self._attached.remove(attach)

    async def send(self, subject: str, data: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Hands bytes to the kernel, or `BusUnavailable`; never keeps them for later."""
        connection = self._connection
        if connection is None or connection.lost.is_set():
            raise self._down()
        if connection.pending_data_size > self._pace.backlog:
            self._log.count_and_log("backlog", bus=self.name)
            raise BusUnavailable("backlog", f"The broker at {self._where} takes nothing any more; is it overloaded?")
        try:
            await connection.publish(subject, data, reply, dict(headers) if headers else None)
        except nats.errors.MaxPayloadError:
            sentence = f"{len(data)} bytes are more than the broker carries ({connection.max_payload})."
            raise BusUnavailable("too-large", sentence) from None
        except (nats.errors.ConnectionClosedError, nats.errors.OutboundBufferLimitError, OSError):
            raise self._down() from None

    async def close(self, finish: Callable[[], Awaitable[None]]) -> None:
        """Ends it. What has arrived is handed over first, then `finish` awaited, then what was sent is flushed."""
        self._up.clear()
        while self._supervisor is not None and not self._supervisor.done():
            self._supervisor.cancel()  # more than once: asyncio.wait_for of Python 3.11, in nats-py, can swallow it
            await asyncio.wait([self._supervisor], timeout=_CANCEL_AGAIN_AFTER)
        if self._connection is not None:
            with suppress(nats.errors.Error, OSError, TimeoutError):
                async with asyncio.timeout(self._pace.drain_within):
                    await self._connection.drain_subscriptions(keep=inbox_prefix(self.name))
                    await finish()
                    await self._connection.flush()
            await self._connection.close()
            self._connection = None

    async def _supervise(self) -> None:
        wait = self._pace.retry_after
        while True:
            try:
                connection = await self._connect()
            except Exception as error:  # whatever it was: if this task ended, the bus would be closed for ever
                self._last_error = str(error) or type(error).__name__
                self._log.count_and_log("connect-failed", bus=self.name, error=self._last_error)
            else:
                wait = self._pace.retry_after
                if self.on_up is not None:
                    await self.on_up()
                await connection.lost.wait()
                self._forget(connection)
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            wait = min(2 * wait, self._pace.retry_at_most)

    async def _connect(self) -> Connection:
        connection = Connection(self._pace.queue)
        try:
            async with asyncio.timeout(self._pace.connect_within), self._attaching:
                await connection.connect(
                    self._servers,
                    name=self.name,
                    nkeys_seed_str=self._seed.reveal().decode(),
                    tls=self._tls,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,  # of each server, within `connect`; 0 would be "without end" there
                    reconnect_time_wait=0,
                    ping_interval=self._pace.ping_every,  # type: ignore[arg-type] # it takes fractions
                    max_outstanding_pings=2,
                    error_cb=self._noticed,
                )
                for attach in self._attached:
                    await attach(connection)
                await connection.flush()
        except BaseException:
            await connection.close()
            raise
        self._connection, self._last_error = connection, ""
        self._up.set()
        return connection

    def _forget(self, connection: Connection) -> None:
        self._up.clear()
        self._connection = None
        self._log.count_and_log("connection-lost", bus=self.name, error=str(connection.last_error or ""))
        if self.on_lost is not None:
            self.on_lost()

    async def _noticed(self, error: Exception) -> None:
        refusal = _DENIED.search(str(error).lower())
        if refusal is not None:
            what, subject = refusal.groups()
            self._log.count_and_log(f"denied-{what}", bus=self.name, subject=subject)
            if what == "subscription":
                self._denied.add(subject)
            elif self.on_denied is not None:
                self.on_denied(subject)
        elif isinstance(error, nats.errors.SlowConsumerError):
            self._log.count_and_log("slow-consumer", bus=self.name, subject=error.subject)
        else:
            self._log.count_and_log("connection-error", bus=self.name, error=str(error))

    @property
    def _where(self) -> str:
        return ", ".join(self._servers)

    def _down(self) -> BusUnavailable:
        why = f" ({self._last_error})" if self._last_error else ""
        question = "does it know this nkey?" if "Authorization" in why else "is it running?"
        sentence = f"{self.name} has no connection to the broker at {self._where}{why}; {question}"
        return BusUnavailable("down", sentence)
