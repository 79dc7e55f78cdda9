"""One group whose packets the kernel's IPsec carries: its table in the kernel, and what the MSM itself sends and hears.

    applications on this host ── UDP to the group's own address ── kernel: seals, opens ── network
    CSM, applications at the local socket ── LocalOutlet ── raw socket of the group ──┘

One thread owns the table: effects of the core come to it by a queue. Applications' packets don't pass through here.

Where the host's network changes, the table stays: states that receive name others' addresses, and the one that sends is
replaced by the core, once it has registered under another address. What is opened anew are the MSM's own sockets.
"""

from __future__ import annotations

import errno
import os
import selectors
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcsa.errors import Refused
from mcsa.shell.clock import system_now
from mcsa.shell.netlink import WAY_OUT, Expiries, Failure, KernelIpsec, refusal
from mcsa.shell.opened_packets import OpenedPackets, OuterSocket, join_group
from mcsa.v1.types_pb2 import GroupDescription
from mcsa.xfrm.operations import DeletePolicy, DeleteState, Operation, RenewState
from mcsa.xfrm.state import KernelState
from services.msm.drivers.interface import DriverSettings, Tell
from services.msm.engine import POLL_FOR, GroupEngine
from services.msm.events import SequenceLow
from services.msm.kernel_counters import count_fragments, count_of_host, count_states
from services.msm.kernel_hearing import KernelHearing
from services.msm.kernel_policies import Reqids
from services.msm.kernel_speaker import KernelSpeaker
from services.msm.kernel_table import KernelTable
from services.msm.largest import largest_of
from services.msm.local_outlet import LocalOutlet

_STATISTICS = [Path("/proc/thread-self/net", name) for name in ("xfrm_stat", "snmp", "snmp6")]  # kernels lack some


@dataclass(frozen=True, slots=True)
class _Move:
    """For the thread: other sockets in place of these."""

    address: str
    failed: Callable[[Refused], None]


class KernelGroup:
    """See the module. Raises `Refused` where the kernel, or a socket, can't be had."""

    def __init__(
        self, settings: DriverSettings, domain: str, group: GroupDescription, reqids: Reqids, tell: Tell
    ) -> None:
        self._tell = tell
        own_address = settings.networks.of(group.address).address
        self._table = KernelTable(domain, group, own_address, reqids)
        self._retired: Counter[str] = Counter()  # what was counted of states that are gone
        self._access = threading.Lock()  # to the netlink socket: the thread changes, others count
        self._queue: deque[Any] = deque()
        self._closing = False
        self._largest_payload = largest_of(group, own_address)  # later a policy forbids to ask for the route
        with ExitStack() as opened:
            self._ipsec = opened.enter_context(KernelIpsec())
            self._expiries = opened.enter_context(Expiries())
            # Opened here and kept, since they are of the network namespace in which that was done.
            self._statistics = {file.name: opened.enter_context(file.open()) for file in _STATISTICS if file.exists()}
            self._begin()
            opened.callback(self._end)
            self._speaker = KernelSpeaker(group)
            self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            opened.callback(os.close, self._wake_read)
            opened.callback(os.close, self._wake_write)
            self._local = LocalOutlet(settings.sockets, self._speaker, self._show_to_all)
            opened.callback(self._local.close)
            self._hearing: KernelHearing | None = None  # until the network is there again
            opened.callback(self._leave)
            self._join(own_address)
            self._opened = opened.pop_all()
        self._renew_at = system_now() + self._table.renew_each
        self._thread = threading.Thread(target=self._run, name=f"kernel {group.name}", daemon=True)
        self._thread.start()

    def _begin(self) -> None:
        for failure in self._ipsec.carry_out(self._table.opening()):
            if not isinstance(failure.operation, DeletePolicy):
                raise refusal(failure)

    def _end(self) -> None:
        self._carry_out(self._table.closing())

    def _join(self, address: str) -> None:
        group = self._table.group
        with ExitStack() as opened:
            outer = opened.enter_context(join_group(group, address, in_udp=self._table.in_udp))
            packets = opened.enter_context(OpenedPackets(group, address))
            packets.obey(self._table.socket_policies)
            hearing = KernelHearing(self._table, packets, outer, self._local, self._tell)
            hearing.show()
            opened.pop_all()
        self._hearing, self._speaker.packets = hearing, packets

    def _leave(self) -> None:
        hearing, self._hearing, self._speaker.packets = self._hearing, None, None
        if hearing is not None:
            hearing.close()

    # ---- what others use

    @property
    def socket_path(self) -> str:
        return self._local.socket_path

    @property
    def engine(self) -> GroupEngine:
        raise Refused("driver", "xfrm.engine", f"The kernel's IPsec relays nothing. {WAY_OUT}.")

    @property
    def largest_payload(self) -> int:
        return self._largest_payload

    def control(self, effect: Any) -> None:
        if not self._closing:
            self._queue.append(effect)
            self._wake()

    def move(self, address: str, failed: Callable[[Refused], None]) -> None:
        self.control(_Move(address, failed))

    def counters(self) -> Mapping[str, int]:
        """The kernel's of this group's states, and under `host.` of packets for which there were none."""
        with self._access:
            counted = self._retired + count_states(self._ipsec.states(), self._table.reqids)
        counted += self._speaker.counted + count_of_host(self._statistic("xfrm_stat"))
        return counted + count_fragments(self._statistic("snmp"), self._statistic("snmp6"))

    def _statistic(self, name: str) -> str:
        file = self._statistics.get(name)
        if file is None:
            return ""
        file.seek(0)
        return file.read()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._wake()
        self._thread.join()
        self._opened.close()

    def _show_to_all(self) -> None:
        """Returns once the sockets let through what an application that has come wants to hear."""
        shown = threading.Event()
        self._queue.append(shown)
        self._wake()
        shown.wait(POLL_FOR)  # no longer: the group may be closing

    def _wake(self) -> None:
        os.write(self._wake_write, b"\0")

    # ---- the thread

    def _run(self) -> None:
        with selectors.DefaultSelector() as watch:
            for door in (self._expiries, self._wake_read, *self._doors()):
                watch.register(door, selectors.EVENT_READ)
            while not self._closing:
                watch.select(min(POLL_FOR, max(0.0, self._renew_at - system_now())))
                self._look(system_now(), watch)

    def _doors(self) -> tuple[OpenedPackets | OuterSocket, ...]:
        return () if self._hearing is None else self._hearing.doors

    def _look(self, now: float, watch: selectors.BaseSelector) -> None:
        self._take_control(now, watch)
        self._take_expiries(now)
        if now >= self._renew_at:
            self._renew_at = now + self._table.renew_each
            self._carry_out(self._table.renewing(now))
        self._show()
        if self._hearing is not None:
            self._hearing.hear(now)

    def _show(self) -> None:
        if self._hearing is not None:
            self._hearing.show()

    def _take_control(self, now: float, watch: selectors.BaseSelector) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            return
        while self._queue:
            match effect := self._queue.popleft():
                case _Move():
                    self._join_anew(effect, watch)
                case threading.Event():
                    self._show()
                    effect.set()
                case _:
                    self._carry_out(self._table.control(effect, now))
                    self._obey()

    def _join_anew(self, move: _Move, watch: selectors.BaseSelector) -> None:
        for door in self._doors():
            watch.unregister(door)
        self._leave()  # first: the group's port is one socket's
        self._table.move(move.address)
        try:
            self._join(move.address)
        except Refused as refused:
            move.failed(refused)
        for door in self._doors():
            watch.register(door, selectors.EVENT_READ)

    def _obey(self) -> None:
        if self._hearing is not None:
            self._hearing.obey()

    def _take_expiries(self, now: float) -> None:
        for report in self._expiries.receive():
            state = self._table.state_of(report.destination, report.spi)
            if state is None:
                continue
            if report.is_hard:
                self._expired([state], now)
            else:
                self._tell(SequenceLow(self._table.group.group_id))

    def _expired(self, states: Sequence[KernelState], now: float) -> None:
        operations, sending_lost = self._table.expired(states, now)
        self._carry_out(operations)
        self._obey()
        if sending_lost:  # the core registers anew, for a sender ID with fresh numbers
            self._tell(SequenceLow(self._table.group.group_id))

    def _carry_out(self, operations: Sequence[Operation]) -> None:
        with self._access:
            going = {op.state.spi for op in operations if isinstance(op, DeleteState)}
            if going:
                counted = (report for report in self._ipsec.states() if report.spi in going)
                self._retired += count_states(counted, self._table.reqids)
            failures = self._ipsec.carry_out(operations)
        expired = []
        for failure in failures:
            match failure:
                case Failure(RenewState(state), errno.ESRCH):
                    expired.append(state)
                case Failure(DeleteState(), errno.ESRCH):  # it has expired before
                    pass
                case _:
                    self._speaker.counted[f"kernel.{errno.errorcode.get(failure.number, 'error')}"] += 1
        if expired:
            self._expired(expired, system_now())
