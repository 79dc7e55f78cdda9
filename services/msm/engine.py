"""A group's packets in user space: the packet path, its wire, and the thread that opens what arrives.

    network --Wire--> receive thread --GroupPath.open--> outlets: the driver's doors to applications
    applications --driver--> `say` --GroupPath.seal_batches--> Wire --> network

The receive thread owns the path: what the core wants of it comes by a queue, so that nothing is opened by two threads
at once. It doesn't touch the event loop, but to hand over an update or a hint.
"""

from __future__ import annotations

import errno
import os
import selectors
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mcsa.errors import Refused
from mcsa.esp.outbound import SealedBatch
from mcsa.shell.clock import system_now, wall_clock_offset
from mcsa.shell.marking import Marking
from mcsa.updates import PORT as UPDATE_PORT
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.events import ClockSet
from services.msm.path import GroupPath, Outgoing
from services.msm.received import Received, ReceivedRun
from services.msm.relaying import Relayed
from services.msm.wires import Wire

BURST = 64  # datagrams read before the queue is looked at again
POLL_FOR = 1.0  # seconds
CLOCK_SET = 0.01  # seconds; a wall clock that changes by more at once was set

Outlet = Callable[[Sequence[Received]], None]


@dataclass(frozen=True, slots=True)
class _Rewire:
    """For the receive thread: another wire in place of this one."""

    open: Callable[[], Wire]
    failed: Callable[[Refused], None]


class GroupEngine:
    """See the module. `tell` takes events for the core, from any thread. The receive thread calls `pin` first."""

    def __init__(
        self, path: GroupPath, wire: Wire, tell: Callable[[Any], None], pin: Callable[[], None] | None = None
    ) -> None:
        self.path = path
        self._pin = pin
        path.own_address = wire.address
        self._wire = wire
        self._tell = tell
        self.outlets: tuple[Outlet, ...] = ()  # replaced, never changed
        self.heard: Outlet | None = None  # takes what is heard, in place of applications
        self.said: Outlet | None = None  # is told what this host's applications say
        self._sealing = threading.Lock()  # several doors may say something; batches share a buffer
        self._queue: deque[Any] = deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._marking: Marking | None = None  # of what was said last, where it waits for others
        self._wake_at: float | None = None  # until then the receive thread waits; None: for what arrives
        self._clock_offset: float | None = None  # of the wall clock, while the path goes by it
        self._closing = False
        name = path.group.name or path.group.group_id.hex()[:8]
        self._thread = threading.Thread(target=self._receive, name=f"receive {name}", daemon=True)

    @property
    def group(self) -> GroupDescription:
        """As its path has it."""
        return self.path.group

    @property
    def counted(self) -> Counter[str]:
        """Likewise: of its counters."""
        return self.path.counters

    @property
    def marking(self) -> Marking:
        """Of what was received last, where the wire is transparent. For outlets, while they are given it."""
        return self._wire.marking

    def counters(self) -> dict[str, int]:
        """What became of packets, by cause; `overrun` is the kernel's word (`Wire.overruns`)."""
        overruns = self._wire.overruns
        return {**self.path.counters, **({"overrun": overruns} if overruns else {})}

    def start(self) -> None:
        """Packets pass from now on. Outlets are set before."""
        self._thread.start()

    def control(self, effect: Any) -> None:
        """An effect of the core on this group, carried out by the receive thread in order; none after `close`."""
        if self._closing:
            return
        self._queue.append(effect)
        os.write(self._wake_write, b"\0")

    def rewire(self, open_: Callable[[], Wire], failed: Callable[[Refused], None]) -> None:
        """Leaves the group and joins it anew, with what `open_` gives: the network has changed. Keys, numbers and
        applications stay. Where it can't be opened, `failed` is told, and nothing passes until the next time."""
        self.control(_Rewire(open_, failed))

    def close(self) -> None:
        """Leaves the group, ends the thread. May be called twice."""
        if self._closing:
            return
        self._closing = True
        os.write(self._wake_write, b"\0")
        if self._thread.is_alive():
            self._thread.join()
        self._wire.close()
        for end in (self._wake_read, self._wake_write):
            os.close(end)

    # ---- network to applications

    def _receive(self) -> None:
        if self._pin is not None:
            self._pin()
        with selectors.DefaultSelector() as watch:
            watch.register(self._wire, selectors.EVENT_READ)
            watch.register(self._wake_read, selectors.EVENT_READ)
            while not self._closing:
                watch.select(self._poll_for())
                self._take_control(watch)
                self._mind_clock()
                self._read_burst()
                self._send_what_is_due()

    def _mind_clock(self) -> None:
        """What is known of the Authorizer's clock is known by this host's: where that was set, it is known no more.

        A receiver whose clock went back would take for safe what anybody can have forged by now, and a source whose
        clock went ahead would tell its keys too soon.
        """
        if not self.path.goes_by_clock:
            self._clock_offset = None
            return
        offset, before = wall_clock_offset(), self._clock_offset
        if offset is None:
            return
        self._clock_offset = offset
        if before is not None and abs(offset - before) > CLOCK_SET:
            self.path.forget_clock()
            self._tell(ClockSet(self.path.group.group_id))

    def _poll_for(self) -> float:
        if not self.path.authenticates_sources:
            return POLL_FOR
        with self._sealing:  # so that who says something meanwhile sees for how long this thread will wait
            wake_at = self._wake_at = self.path.wake_at()
        return POLL_FOR if wake_at is None else min(POLL_FOR, max(0.0, wake_at - system_now()))

    def _send_what_is_due(self) -> None:
        """Where the policy authenticates sources: what its time brings."""
        if self._wake_at is None or (now := system_now()) < self._wake_at:
            return
        with self._sealing:
            self._send_out(self.path.woken(now), self._marking)

    def _take_control(self, watch: selectors.BaseSelector) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            return
        while self._queue:
            effect = self._queue.popleft()
            if isinstance(effect, _Rewire):
                self._replace_wire(effect, watch)
            else:
                self._pass_up(self.path.carry_out(effect, system_now()))

    def _replace_wire(self, effect: _Rewire, watch: selectors.BaseSelector) -> None:
        with self._sealing:
            if self._wire.fileno() >= 0:  # an earlier time may have ended without one
                watch.unregister(self._wire)
                self._wire.close()  # first: the group's port is one socket's
            try:
                self._wire = effect.open()
            except Refused as refused:  # what is said meanwhile is counted as unsent, by the closed one
                effect.failed(refused)
                return
            self.path.own_address = self._wire.address
            watch.register(self._wire, selectors.EVENT_READ)

    def _read_burst(self) -> None:
        now = system_now()
        for _ in range(BURST):
            try:
                found = self._wire.receive(self.path, now)
            except OSError:  # nothing more, or an error that an ICMP message caused
                break
            self._pass_up(found)

    def _pass_up(self, found: list[Any]) -> None:
        received: list[Received] = []
        for item in found:
            if isinstance(item, Received):
                received.append(item)
                continue
            self._hear(received)
            received = []
            if isinstance(item, ReceivedRun):
                self._hear(item)
            else:
                self._tell(item)
        self._hear(received)

    def _hear(self, received: Sequence[Received]) -> None:
        if received:
            (self.heard or self.deliver)(received)

    def deliver(self, found: Sequence[Received]) -> None:
        """Gives packets to this host's applications. From any thread."""
        # a relaying agent carries on also what isn't proved yet
        if self.path.authenticates_sources and not isinstance(found, ReceivedRun):
            found = [packet for packet in found if packet.is_heard]
        for outlet in self.outlets:
            outlet(found)

    # ---- applications to network

    def say(
        self, payloads: Sequence[bytes], source_port: int, destination_port: int, marking: Marking | None = None
    ) -> None:
        """Sends payloads with one inner header: what came together leaves together, with that marking if there is one.
        From any thread.

        Not to the port where members believe the Authorizer speaks, nor what no packet has room for: that is counted,
        and not sent.
        """
        if destination_port == UPDATE_PORT:
            self.path.counters["unsent.port"] += len(payloads)
            return
        if not self._wire.may_send:
            self.path.counters["unsent.not-a-source"] += len(payloads)
            return
        self._mind_clock()
        if payloads and max(map(len, payloads)) > self.path.largest_payload:
            payloads = self._fitting(payloads)
        with self._sealing:
            self._seal_and_send(payloads, source_port, destination_port, marking)
        self._tell_sequence_low()

    def _fitting(self, payloads: Sequence[bytes]) -> Sequence[bytes]:
        fitting = [payload for payload in payloads if len(payload) <= self.path.largest_payload]
        self.path.counters["unsent.too-large"] += len(payloads) - len(fitting)
        return fitting

    def _seal_and_send(
        self, payloads: Sequence[bytes], source_port: int, destination_port: int, marking: Marking | None
    ) -> None:
        if self.path.authenticates_sources:
            self._marking = marking
            self._send_out(self.path.say(payloads, source_port, destination_port, system_now()), marking)
            wake_at = self.path.wake_at()
            if wake_at is not None and (self._wake_at is None or wake_at < self._wake_at):
                os.write(self._wake_write, b"\0")
        elif self.said is not None:
            self._send_and_hear(payloads, source_port, destination_port, marking, self.said)
        elif len(payloads) == 1:
            packet = self.path.seal(payloads[0], source_port, destination_port)
            if packet is not None:
                self._send(packet, marking)
        else:
            for batch in self.path.seal_batches(payloads, source_port, destination_port):
                self._send_batch(batch, marking)

    def _send_out(self, outgoing: Iterable[Outgoing], marking: Marking | None) -> None:
        """What authenticates its source; where this host is a relaying agent, it carries that on too. Packets of one
        block have the marking of the last of them."""
        for each in outgoing:
            self._send_batch(each.packets, marking)
            if self.said is not None:
                self.said(each.heard)

    def _send_and_hear(
        self,
        payloads: Sequence[bytes],
        source_port: int,
        destination_port: int,
        marking: Marking | None,
        said: Outlet,
    ) -> None:
        """As a relaying agent, which has to carry on what it says itself."""
        heard = []
        for payload in payloads:
            sealed = self.path.seal_and_hear(payload, source_port, destination_port)
            if sealed is not None:
                self._send(sealed[0], marking)
                heard.append(sealed[1])
        said(heard)

    def _send(self, packet: bytes, marking: Marking | None) -> None:
        """What can't be sent is lost, as on any network that is down or has no room; that is counted."""
        try:
            self._wire.send(packet, marking)
        except (Refused, OSError) as error:
            self.path.counters[f"unsent.{_cause(error)}"] += 1

    def _send_batch(self, batch: SealedBatch, marking: Marking | None) -> None:
        """Likewise."""
        try:
            self._wire.send_batch(batch.view, batch.segment_size, marking)
        except (Refused, OSError) as error:
            self.path.counters[f"unsent.{_cause(error)}"] += -(-len(batch.view) // batch.segment_size)

    def send_relayed(self, relayed: Relayed) -> None:
        """Carries others' packets into this group. By one thread at a time."""
        try:
            for batch in self.path.relay_batches(*relayed):
                self._wire.send_batch(batch.view, batch.segment_size)
        except (Refused, OSError):
            self.path.counters["relaying-unsent.network"] += 1
        self._tell_sequence_low()

    def _tell_sequence_low(self) -> None:
        for event in self.path.sequence_low():
            self._tell(event)


def _cause(error: Exception) -> str:
    """Of what was not sent: a wire that doesn't fragment says so of what is too large."""
    found = error.__cause__ if isinstance(error, Refused) else error
    return "too-large" if isinstance(found, OSError) and found.errno == errno.EMSGSIZE else "network"
