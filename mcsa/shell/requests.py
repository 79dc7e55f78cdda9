"""Requests on the bus that wait for their answers, each under a token that can't be guessed."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nats.aio.msg import Msg
from nats.js.api import Header

from mcsa.errors import Refused

_NO_RESPONDERS = "503"  # the server's answer where nobody subscribes to what was asked


class BusUnavailable(Refused):
    """Could not be carried, or wasn't answered. `rule` is one of "down", "lost", "backlog", "timeout", "denied",
    "no-responders", "too-large", "store" (JetStream refuses). In "lost" and "timeout" the other side may have got it.
    """

    def __init__(self, cause: str, sentence: str) -> None:
        super().__init__("bus-unavailable", cause, sentence)


@dataclass(slots=True)
class _Waiting:
    subject: str
    answer: asyncio.Future[bytes]


class Requests:
    """All that wait, whose answers come to subjects below `inbox`."""

    def __init__(self, inbox: str, counters: Counter[str]) -> None:
        self.inbox = inbox
        self._counters = counters
        self._waiting: dict[str, _Waiting] = {}

    @contextmanager
    def waiting(self, subject: str) -> Iterator[tuple[str, asyncio.Future[bytes]]]:
        """Where the answer to a request on `subject` is to be sent, and the answer to come."""
        token = secrets.token_hex(16)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[token] = _Waiting(subject, answer)
        try:
            yield f"{self.inbox}.{token}", answer
        finally:
            del self._waiting[token]
            if not answer.cancel() and not answer.cancelled():
                answer.exception()  # whoever asked has gone: nobody else will look at it

    async def answered(self, message: Msg) -> None:
        """Something came to an inbox."""
        waiting = self._waiting.get(message.subject.rpartition(".")[2])
        if waiting is None or waiting.answer.done():
            self._counters["unasked-answer"] += 1
        elif not message.data and (message.headers or {}).get(Header.STATUS) == _NO_RESPONDERS:
            self._counters["no-responders"] += 1
            sentence = f"Nobody serves {waiting.subject}; is the service running, and connected to the same broker?"
            waiting.answer.set_exception(BusUnavailable("no-responders", sentence))
        else:
            waiting.answer.set_result(message.data)

    def fail_denied(self, subject: str, name: str) -> None:
        """The broker lets nobody of our `name` publish to `subject` (in lower case, as nats-py tells it)."""
        for waiting in self._waiting.values():
            if waiting.subject.lower() == subject and not waiting.answer.done():
                waiting.answer.set_exception(denied(name, "publish", waiting.subject))

    def fail_all(self, cause: str, sentence: str) -> None:
        """None of them will be answered."""
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(BusUnavailable(cause, sentence))


def denied(name: str, what: str, subject: str) -> BusUnavailable:
    """The broker's permissions don't let `name` do that."""
    sentence = f"The broker does not let {name} {what} to {subject}; what it may is in the broker's configuration."
    return BusUnavailable("denied", sentence)
