"""The door to NATS: bytes by subject, over one supervised connection.

What is known to go wrong with nats-py 2.16 and nats-server 2.15, and what becomes of it here:

1. A fatal error of the server (a user removed, credentials expired) closes nats-py's client for ever, and
2. so do 60 failed attempts. Here every loss, of whatever kind, ends in a new connection, after a jittered wait, without
   end; all that was subscribed is subscribed again before `ready`.
3. A request that timed out is delivered later from nats-py's buffer. Here there is none while the broker is down
   (`BusUnavailable` at once), and a lost connection's is thrown away. What the kernel had already taken may still
   arrive late: that is what the deadline in the envelope is for.
4. That buffer's overflow is an exception. Here a connection that doesn't take what is sent refuses at `backlog` bytes.
5. A silent peer is noticed after two missed pings, 5 s apart, not after four minutes.
6. One subscription's messages are handled one after another, with `nats.micro` too. Here see `Handlers`.
7. `nats.micro` sends the text of exceptions to callers, and drops what waits when it is stopped. Here none reaches
   it, and `close` drains: what has arrived is handled and answered first.
8. A message that isn't permitted vanishes; the reason comes as lower-case text on another path. Here it is matched: the
   waiting request fails at once, `subscribe` and `serve` fail, a publication is counted (`denied-publish`).
9. Key-value buckets give expired entries, and 10. watches come back 15 s after a restart, and 14. reads want
   wide permissions: nothing here uses buckets or watches. Subscriptions are back before `on_ready` is called,
   and whoever may have missed something asks for it then.
11. A slow reader loses messages. Here the queues are bounded, what is lost is counted (`slow-consumer`), and one
    subject's flood holds up no other subject.
12. The first connection is tried for minutes, blocking. Here `start` waits as long as it is told.
13. An exception in a handler is nowhere to be seen. Here it is counted (`handler-failed`) and handed to `on_crash`.
15. A replicated JetStream has no leader for seconds: it is no part of this; a request to it ends in
    `BusUnavailable` like any other, and who asked asks again.

A broker is believed nothing: whatever arrives is bytes. Two things are kept from being abused even so: answers go
only to inboxes, and an inbox's subjects can't be guessed.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.micro import add_service
from nats.micro.request import Request

from mcsa.broker import INBOX, SHARE, inbox_prefix
from mcsa.shell.connection import Connection
from mcsa.shell.handlers import Crashed, Handlers
from mcsa.shell.link import Link, Pace
from mcsa.shell.log import CountedLog
from mcsa.shell.nkeys import NkeySeed
from mcsa.shell.requests import BusUnavailable, Requests

__all__ = ["Bus", "BusUnavailable", "End", "Headers", "OnMessage", "OnRequest", "Pace", "Reply"]

Headers = Mapping[str, str]
Reply = Callable[[bytes], Awaitable[None]]
OnRequest = Callable[[str, bytes, Headers, Reply], Awaitable[None] | None]
OnMessage = Callable[[str, bytes, Headers], Awaitable[None] | None]
End = Callable[[], Awaitable[None]]


class Bus:
    """One identity's place on the bus.

    `name` and `seed` are its identity at the broker (`mcsa.broker.bus_name`). `on_ready` is called after each
    (re)connection, `on_crash` with what a handler raised. `counters` counts what happened, under words of a fixed set.
    """

    def __init__(
        self,
        servers: Sequence[str],
        name: str,
        seed: NkeySeed,
        *,
        tls: ssl.SSLContext | None = None,
        on_ready: Callable[[], Awaitable[None] | None] | None = None,
        on_crash: Crashed | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.name = name
        self.counters: Counter[str] = Counter()
        self._pace = pace or Pace()
        self._log = CountedLog(self.counters)
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_ready = on_ready
        self._on_crash = on_crash
        self._requests = Requests(f"{inbox_prefix(name)}.{secrets.token_hex(8)}", self.counters)
        self._link = Link(servers, name, seed, tls, self._pace, self._log)
        self._link.on_up = self._is_up
        self._link.on_lost = self._is_lost
        self._link.on_denied = lambda subject: self._requests.fail_denied(subject, name)

    @property
    def ready(self) -> bool:
        """Connected, and all that was asked for is subscribed."""
        return self._link.up

    async def start(self, within: float = 10.0) -> None:
        """Connects. `BusUnavailable("down")` where that takes longer than `within`; it is tried on until `close`."""
        await self._link.attach(self._listen_for_answers)
        await self._link.start(within)

    async def close(self) -> None:
        """Ends it: what has arrived is handled and answered first, but for no longer than `Pace.drain_within`."""
        await self._link.close(self._finish_handlers)
        self._requests.fail_all("down", f"The bus of {self.name} has been closed.")
        for task in self._tasks:
            task.cancel()

    async def serve(
        self,
        service: str,
        version: str,
        subjects: Mapping[str, str],
        on_request: OnRequest,
        counters: Mapping[str, int] | None = None,
    ) -> None:
        """Serves requests through `nats.micro`, so that the service is found and counted (`$SRV.PING/INFO/STATS`);
        the statistics carry our counters and the service's `counters`.

        `subjects` maps each verb to its subject pattern; replicas share what comes. `version` is a semantic version.
        `on_request(subject, data, headers, reply)` where `reply(data)` may be called later, once, from anywhere, and
        never raises. See `Handlers` for plain functions and coroutine functions. `BusUnavailable("denied")` where
        the broker doesn't let us.
        """
        handlers = {verb: self._handlers() for verb in subjects}

        def statistics(_endpoint: object) -> dict[str, int]:
            return {**self.counters, **(counters or {})}

        def handle_with(running: Handlers) -> Callable[[Request], Awaitable[None]]:
            async def handle(request: Request) -> None:
                reply = self._reply_to(request._msg.reply)
                await running.run(on_request, request.subject, request.data, request.headers or {}, reply)

            return handle

        async def attach(connection: Connection) -> None:
            micro = await add_service(connection, name=service, version=version, stats_handler=statistics)
            for verb, pattern in subjects.items():
                await micro.add_endpoint(name=verb, subject=pattern, handler=handle_with(handlers[verb]))

        await self._link.attach(attach)

    async def subscribe(self, subject: str, on_message: OnMessage) -> None:
        """Calls `on_message(subject, data, headers)` for what is published from now on.

        What is published while the connection is down is missed: ask for it in `on_ready`. See `Handlers` for plain
        functions and coroutine functions. `BusUnavailable("denied")` where the broker doesn't let us.
        """
        handlers = self._handlers()

        async def handle(message: Msg) -> None:
            await handlers.run(on_message, message.subject, message.data, message.headers or {})

        async def attach(connection: Connection) -> None:
            await connection.subscribe(subject, cb=handle)

        await self._link.attach(attach)

    async def share(self, subject: str, on_request: OnRequest) -> End:
        """Answers some of the requests on `subject`: of all that share it, one gets each. In a cluster of brokers those
        are preferred that are connected to the asker's own: that is as near as the bus can tell.

        `on_request` as in `serve`. Returns what ends it. `BusUnavailable("denied")` where the broker doesn't let us.
        """
        handlers = self._handlers()
        current: list[tuple[Connection, Subscription]] = []

        async def handle(message: Msg) -> None:
            reply = self._reply_to(message.reply)
            await handlers.run(on_request, message.subject, message.data, message.headers or {}, reply)

        async def attach(connection: Connection) -> None:
            current[:] = [(connection, await connection.subscribe(subject, queue=SHARE, cb=handle))]

        async def end() -> None:
            self._link.detach(attach)
            for connection, subscription in current:
                await connection.end_subscription(subscription)
            current.clear()

        await self._link.attach(attach)
        return end

    async def publish(self, subject: str, data: bytes, headers: Headers | None = None) -> None:
        """Sends to whoever listens. `BusUnavailable` where that can't be now; where the broker forbids it, that is
        counted when it says so (`denied-publish`)."""
        await self._link.send(subject, data, headers=headers)

    async def request(
        self,
        subject: str,
        data: bytes,
        timeout: float,  # noqa: ASYNC109 - that it came in time is part of the answer
        headers: Headers | None = None,
    ) -> bytes:
        """Asks, and waits at most `timeout` for the answer; `BusUnavailable` where there is none."""
        with self._requests.waiting(subject) as (inbox, answer):
            await self._link.send(subject, data, inbox, headers)
            try:
                return await asyncio.wait_for(answer, timeout)
            except TimeoutError:
                self.counters["timeout"] += 1
                sentence = f"Nobody answered {subject} within {timeout:g} s; is the service overloaded, or stuck?"
                raise BusUnavailable("timeout", sentence) from None

    async def _listen_for_answers(self, connection: Connection) -> None:
        await connection.subscribe(f"{self._requests.inbox}.*", cb=self._requests.answered)

    def _handlers(self) -> Handlers:
        return Handlers(self._pace.handlers, self._tasks, self._log, self._on_crash)

    def _reply_to(self, inbox: str) -> Reply:
        async def reply(data: bytes) -> None:
            if not inbox.startswith(INBOX):
                self.counters["reply-elsewhere"] += 1
                return
            try:
                await self._link.send(inbox, data)
            except BusUnavailable:  # who asked will ask again
                self.counters["reply-lost"] += 1

        return reply

    async def _is_up(self) -> None:
        if self._on_ready is not None:
            await self._handlers().run(self._on_ready)

    def _is_lost(self) -> None:
        self._requests.fail_all("lost", "The connection to the broker was lost; the request may have been carried.")

    async def _finish_handlers(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)
