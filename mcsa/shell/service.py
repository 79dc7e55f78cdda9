"""What the four services have in common around their cores: the bus, the clock, the stop.

    bus bytes --> Endpoint --> effects --> bus bytes, or the service's own doors (`perform`)

Everything here happens on one event loop; what other threads have to tell comes in by `feed_from_thread`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import structlog

from mcsa import __version__, subjects
from mcsa.broker import micro_name
from mcsa.endpoint import Endpoint, OutgoingAnswer, OutgoingPublication, OutgoingRequest
from mcsa.envelope import MAX_LIFETIME
from mcsa.shell.bus import Bus, BusUnavailable, End, Headers, OnMessage, Reply
from mcsa.shell.clock import system_now
from mcsa.shell.inbox import Inbox

TRACEPARENT = "traceparent"  # W3C trace context, in the headers of the bus

log = structlog.get_logger()


class RunningService:
    """One endpoint on the real bus. `perform` carries out the effects that aren't the bus's."""

    def __init__(self, endpoint: Endpoint, bus: Bus, perform: Callable[[Any], None]) -> None:
        self.endpoint = endpoint
        self._bus = bus
        self._perform = perform
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._inbox = Inbox(self._loop, self.feed, endpoint.counters)

    async def start(self, within: float = 10.0, first: Callable[[], Awaitable[None]] | None = None) -> None:
        """Connects, waits for `first`, and serves the endpoint's verbs."""
        endpoint = self.endpoint
        await self._bus.start(within)
        if first is not None:
            await first()
        if endpoint.verbs:
            # an MSM serves its own host only; the others whoever calls
            caller = endpoint.caller if endpoint.service == subjects.MSM else "*"
            verbs = {verb: subjects.subject(endpoint.service, caller, verb) for verb in endpoint.verbs}
            await self._bus.serve(micro_name(endpoint.service), __version__, verbs, self._asked, endpoint.counters)
        self._schedule()

    async def listen(self, subject: str, on_message: OnMessage | None = None) -> None:
        """Hears publications: envelopes for the core, unless `on_message` takes them."""
        await self._bus.subscribe(subject, on_message or self._told)

    async def share(self, subject: str) -> End:
        """Answers some of what is asked on a subject; see `Bus.share`."""
        return await self._bus.share(subject, self._asked)

    async def close(self) -> None:
        """Ends; answers under way are sent first."""
        await self._bus.close()  # what it still hands over sets the timer anew
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    # ---- into the core

    def feed(self, event: Any) -> None:
        """An event of the service's own doors."""
        self._carry_out(self.endpoint.handle(event, system_now()))

    def feed_from_thread(self, event: Any, *, droppable: bool = False) -> None:
        """The same from another thread; see `Inbox.put`."""
        self._inbox.put(event, droppable=droppable)

    def perform_effects(self, effects: Sequence[Any]) -> None:
        """Effects that came about outside of an event."""
        self._carry_out(self.endpoint.carry_out(effects, system_now()))

    def _asked(self, subject: str, raw: bytes, headers: Headers, reply: Reply) -> None:
        trace = headers.get(TRACEPARENT)
        self._carry_out(self.endpoint.request_arrived(subject, raw, reply, system_now(), trace))

    def _told(self, subject: str, raw: bytes, headers: Headers) -> None:
        trace = headers.get(TRACEPARENT)
        self._carry_out(self.endpoint.publication_arrived(subject, raw, system_now(), trace))

    def _tick(self) -> None:
        self._timer = None
        self._carry_out(self.endpoint.tick(system_now()))

    # ---- out of it

    def _carry_out(self, outputs: Sequence[Any]) -> None:
        for output in outputs:
            match output:
                case OutgoingRequest():
                    self.spawn(self._ask(output))
                case OutgoingAnswer():
                    self.spawn(self._answer(output))
                case OutgoingPublication():
                    self.spawn(self.publish(output.subject, output.raw, output.traceparent))
                case _:
                    self._perform(output)
        self._schedule()

    async def _ask(self, output: OutgoingRequest) -> None:
        try:
            raw = await self._bus.request(output.subject, output.raw, MAX_LIFETIME, _headers(output.traceparent))
        except BusUnavailable as unavailable:  # the endpoint repeats, and gives up at the deadline
            self.endpoint.counters[f"bus.{unavailable.rule}"] += 1
            if unavailable.rule == "no-responders":
                self._carry_out(self.endpoint.nobody_serves(output.request_id, system_now()))
            return
        self._carry_out(self.endpoint.answer_arrived(raw, system_now()))

    async def _answer(self, output: OutgoingAnswer) -> None:
        await output.reply(output.raw)  # type: ignore[operator] # the Reply given in _asked

    async def publish(self, subject: str, raw: bytes, traceparent: str | None = None) -> None:
        """Bytes to whoever listens; counted where they can't be sent now."""
        try:
            await self._bus.publish(subject, raw, _headers(traceparent))
        except BusUnavailable as unavailable:
            self.endpoint.counters[f"bus.{unavailable.rule}"] += 1

    def publish_soon(self, subject: str, raw: bytes, traceparent: str | None = None) -> None:
        """The same, from where nothing can be awaited."""
        self.spawn(self.publish(subject, raw, traceparent))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Runs something that waits, until it is done or the service ends; what it raises is a bug of ours."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()  # type: ignore[misc] # a bug of ours: the loop's handler ends the process

    def _schedule(self) -> None:
        wake_at = self.endpoint.wake_at()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wake_at is not None:
            delay = max(0.0, wake_at - system_now())
            self._timer = self._loop.call_later(delay, self._tick)


def _headers(traceparent: str | None) -> Headers | None:
    return {TRACEPARENT: traceparent} if traceparent else None
