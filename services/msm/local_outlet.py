"""A group's local socket: the Unix socket by which CSM and applications of this host send to the group and hear it."""

from __future__ import annotations

import math
import selectors
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Protocol

from mcsa.errors import Refused, Rejected
from mcsa.shell.local_batches import IncomingBatch, is_outgoing_batch, parse_outgoing_batch
from mcsa.shell.local_frames import FrameClient, FrameServer, OutgoingFrame, parse_outgoing
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.engine import BURST, POLL_FOR
from services.msm.received import Received, together
from services.msm.stop import Stop


class Speaker(Protocol):
    """What sends to the group."""

    @property
    def group(self) -> GroupDescription: ...

    @property
    def counted(self) -> Counter[str]: ...

    def say(self, payloads: Sequence[bytes], source_port: int, destination_port: int) -> None:
        """From any thread; what can't be sent is counted."""


class LocalOutlet:
    """Serves any number of applications of this host's user. Raises `Refused` where the socket can't be had."""

    def __init__(
        self,
        folder: Path,
        speaker: Speaker,
        connected: Callable[[], None] | None = None,
        pin: Callable[[], None] | None = None,
    ) -> None:
        """`connected` is called, by a thread of this one's, when another application is there; `pin` by it at first."""
        self._pin = pin
        self._speaker = speaker
        self._connected = connected
        group = speaker.group
        self._frames = FrameServer(folder / f"{group.group_id.hex()[:16]}.sock")
        self._accept_at = math.inf  # when applications are accepted again; infinite: they are
        self._stop = Stop()
        self._thread = threading.Thread(target=self._send, name=f"send {group.name}", daemon=True)
        self._thread.start()

    @property
    def socket_path(self) -> str:
        """Where applications connect."""
        return str(self._frames.path)

    @property
    def is_used(self) -> bool:
        """Whether an application is connected."""
        return bool(self._frames.clients)

    def close(self) -> None:
        """Disconnects the applications, ends the thread. May be called twice."""
        if self._stop.set():
            self._thread.join()
            self._frames.close()
            self._stop.close()

    def deliver(self, found: Sequence[Received]) -> None:
        """Gives packets to all applications. From any thread."""
        if not self._frames.clients:
            return
        for first, payloads in together(found):
            batch = IncomingBatch(first.sender_id, first.source_port, first.destination_port, payloads)
            self._deliver_batch(batch)

    def _deliver_batch(self, batch: IncomingBatch) -> None:
        messages: list[tuple[int, Sequence[bytes]]] = []  # made once, and only if somebody wants them
        frames: list[bytes] = []
        for client in self._frames.clients:
            if client.takes_batches:
                messages = messages or list(batch.messages())
                for amount, parts in messages:
                    self._frames.deliver_to(client, parts, amount)
            else:
                frames = frames or list(batch.frames())
                for frame in frames:
                    self._frames.deliver_to(client, (frame,))

    def _send(self) -> None:
        if self._pin is not None:
            self._pin()
        with selectors.DefaultSelector() as watch:
            watch.register(self._frames, selectors.EVENT_READ)
            watch.register(self._stop, selectors.EVENT_READ)
            while not self._stop.is_set:
                for key, _ in watch.select(POLL_FOR):
                    if key.fileobj is self._frames:
                        self._accept(watch)
                    elif isinstance(key.fileobj, FrameClient):
                        self._send_from(key.fileobj, watch)
                if time.monotonic() >= self._accept_at:
                    self._accept_at = math.inf
                    watch.register(self._frames, selectors.EVENT_READ)

    def _accept(self, watch: selectors.BaseSelector) -> None:
        try:
            client = self._frames.accept()
        except Refused:  # there is no room: not to be looked at again and again until there is
            self._speaker.counted["local.unserved"] += 1
            watch.unregister(self._frames)
            self._accept_at = time.monotonic() + POLL_FOR
            return
        if client is not None:
            watch.register(client, selectors.EVENT_READ)
            if self._connected is not None:
                self._connected()

    def _send_from(self, client: FrameClient, watch: selectors.BaseSelector) -> None:
        """What a client has said so far: frames that are alike leave together, a batch as it came."""
        frames: list[OutgoingFrame] = []
        descriptor = client.fileno()
        for _ in range(BURST):
            message = self._frames.receive(client)
            if message is None:
                break
            try:
                if not is_outgoing_batch(message):
                    frames.append(parse_outgoing(message))
                    continue
                batch = parse_outgoing_batch(message)
            except Rejected:
                self._speaker.counted["unsent.frame"] += 1
                continue
            if batch is None:
                client.takes_batches = True
                continue
            self._say(frames)
            frames = []
            self._speaker.say(batch.payloads, batch.source_port, batch.destination_port)
        if client.fileno() < 0:
            _unregister(watch, client, descriptor)
        self._say(frames)

    def _say(self, frames: Sequence[OutgoingFrame]) -> None:
        for ports, alike in groupby(frames, _ports):
            self._speaker.say([frame.payload for frame in alike], *ports)


_ports = attrgetter("source_port", "destination_port")


def _unregister(watch: selectors.BaseSelector, client: FrameClient, descriptor: int) -> None:
    """A closed client has no descriptor any more: it is found by the one it had."""
    for key in list(watch.get_map().values()):
        if key.fileobj is client or key.fd == descriptor:
            watch.unregister(key.fileobj if key.fileobj is not client else key.fd)
