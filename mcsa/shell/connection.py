"""One connection to the broker, which lives once: nats-py's client with what it lacks for that.

- It never reconnects by itself. nats-py does, but not after a fatal error of the server: then it is closed for ever.
  `Link` has one way, a new `Connection`, for whatever has happened.
- It closes at once. nats-py first waits until the other side has read what is pending, which a stopped or
  cut-off server never does; and what was pending would be delivered long after the sender gave it up.
- `flush` is a barrier: the server has acted on all that was sent before. nats-py writes its PING ahead of what is
  pending, so that it may be answered before a subscription is made.
- It tells when it is lost (`lost`), and it knows all its subscriptions, those of `nats.micro` too: it bounds their
  queues and can drain them.

Uses private names of nats-py (`_close`, `_send_ping`, `_send_command`, `_pending...`, `_pongs`, `_transport`): the
version is pinned.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import nats.errors
from nats.aio.client import PING_PROTO, Client
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport


class Connection(Client):
    """See above. `queue` is the most messages that wait in one subscription; what comes after is dropped."""

    def __init__(self, queue: int) -> None:
        super().__init__()
        self.lost = asyncio.Event()
        self.subscriptions: list[Subscription] = []
        self._queue = queue

    async def subscribe(self, *arguments: Any, **options: Any) -> Subscription:
        """As nats-py's."""
        options.setdefault("pending_msgs_limit", self._queue)
        subscription = await super().subscribe(*arguments, **options)
        self.subscriptions.append(subscription)
        return subscription

    async def end_subscription(self, subscription: Subscription) -> None:
        """Returns when the server has ended it and what arrived is handed over; at once where it ended before."""
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)
            with suppress(nats.errors.Error):
                await subscription.drain()  # type: ignore[no-untyped-call]

    async def drain_subscriptions(self, keep: str) -> None:
        """Ends the subscriptions, but for those that begin with `keep`; returns when what arrived is handed over."""
        ending = [subscription for subscription in self.subscriptions if not subscription.subject.startswith(keep)]
        await asyncio.gather(*(subscription.drain() for subscription in ending))  # type: ignore[no-untyped-call]

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        self._pongs.append(future or asyncio.Future())
        await self._send_command(PING_PROTO)
        await self._flush_pending()

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        self._pending = []
        self._pending_data_size = 0
        if isinstance(self._transport, TcpTransport) and self._transport._io_writer is not None:
            self._transport._io_writer.transport.abort()
        self.lost.set()
        await super()._close(status, do_cbs)
