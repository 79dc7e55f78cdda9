"""JetStream's interface, as far as a log needs it: requests on the bus whose answers are JSON.

nats-py has a client of its own; it hangs on one connection, and each of ours lives once (`mcsa.shell.connection`).
What is known to go wrong, by the numbers of `mcsa.shell.bus`:

8. What isn't permitted is said at once, by the bus.
9., 10., 14. Buckets, watches, consumers: none are used. Messages are got one by one, from the stream's leader, which
   is asked for what was missed whenever the bus is ready again.
15. A replicated stream has no leader for seconds when it lost one: nobody answers, or "temporarily unavailable". What
   can be repeated is repeated until `Patience.within` has passed.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mcsa.shell.bus import Bus, Headers
from mcsa.shell.requests import BusUnavailable

_PASSING = {"down", "lost", "backlog", "timeout", "no-responders"}
_TEMPORARILY_UNAVAILABLE = 503
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds."""

    answer: float = 1.0  # for one answer; then it is looked up
    within: float = 20.0  # for all tries together; a replicated stream was without a leader for 6
    again_after: float = 0.05  # doubles up to the next; varied by a half
    again_at_most: float = 1.0


class StoreRefused(BusUnavailable):
    """JetStream said no; `number` is its own error code (`err_code`)."""

    def __init__(self, subject: str, error: Mapping[str, Any]) -> None:
        super().__init__("store", f"JetStream refuses {subject}: {error.get('description', error)}")
        self.number = error.get("err_code")
        self.passing = error.get("code") == _TEMPORARILY_UNAVAILABLE


class JetStream:
    """The requests. All of them raise `BusUnavailable`."""

    def __init__(self, bus: Bus, patience: Patience) -> None:
        self._bus = bus
        self._patience = patience

    async def call(self, verb: str, stream: str, **question: Any) -> dict[str, Any]:
        """Asks the interface ("STREAM.INFO") about a stream, once."""
        return await self.ask(f"$JS.API.{verb}.{stream}", json.dumps(question).encode())

    async def ask(self, subject: str, raw: bytes, headers: Headers | None = None) -> dict[str, Any]:
        """One request, once."""
        answer = await self._bus.request(subject, raw, self._patience.answer, headers)
        try:
            content = json.loads(answer)
        except ValueError:
            raise nonsense(subject) from None
        if not isinstance(content, dict) or not isinstance(content.get("error", {}), dict):
            raise nonsense(subject)
        if "error" in content:
            raise StoreRefused(subject, content["error"])
        return content

    async def repeat(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """What `attempt` gives; tried again, for a while, where what failed may pass."""
        patience = self._patience
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + patience.within
        wait = patience.again_after
        while True:
            try:
                return await attempt()
            except BusUnavailable as unavailable:
                passing = unavailable.rule in _PASSING or (
                    isinstance(unavailable, StoreRefused) and unavailable.passing
                )
                if not passing or loop.time() + wait > give_up_at:
                    raise
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            wait = min(2 * wait, patience.again_at_most)


def nonsense(subject: str) -> BusUnavailable:
    """An answer that no JetStream gives."""
    return BusUnavailable("store", f"What the broker answered to {subject} makes no sense.")
