"""A packet process: a driver of its own, for some of the host's groups. The MSM starts it: `packet_processes.py`.

    MSM --Open, Control--> main thread --> GroupAtWork: its threads, its sockets
    GroupAtWork --events, by whichever thread--> MSM

It ends with the MSM: where that is killed the channel closes, where it hangs nothing is answered any more.
"""

from __future__ import annotations

import sys
import threading
import time
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import structlog

from mcsa.errors import Refused
from mcsa.shell.child_process import channel_to_parent
from mcsa.shell.limits import check_open_files
from mcsa.shell.log import set_up_log
from mcsa.shell.run import crash_with_threads
from services.msm.drivers import Driver, GroupAtWork, driver_named
from services.msm.drivers.interface import FILES_OF_A_GROUP
from services.msm.packet_messages import (
    Begin,
    Close,
    Closed,
    Control,
    Counted,
    Gone,
    MoveDriver,
    MoveGroup,
    NotMoved,
    NotOpened,
    Open,
    Opened,
    Ready,
    Seen,
    Told,
    receive,
    send,
)

COUNT_EVERY = 0.5  # seconds
MOST_UNANSWERED = 10
"""Counts that the MSM doesn't answer. An MSM that hangs follows no epochs, so nothing is sent or opened for it."""

log = structlog.get_logger()


class PacketProcess:
    """See the module."""

    def __init__(self, channel: Connection) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._groups: dict[bytes, GroupAtWork] = {}
        self._unanswered = 0
        begin: Begin = receive(channel)
        self._driver: Driver = driver_named(begin.driver)(begin.settings)
        self._send(Ready())

    def run(self) -> None:
        """Until the MSM has ended, or hangs."""
        count_at = time.monotonic() + COUNT_EVERY
        try:
            while self._unanswered <= MOST_UNANSWERED:
                if self._channel.poll(max(0.0, count_at - time.monotonic())):
                    self._take(receive(self._channel))
                if time.monotonic() >= count_at:
                    count_at = time.monotonic() + COUNT_EVERY
                    self._unanswered += 1
                    self._send(Counted({group_id: group.counters() for group_id, group in self._groups.items()}))
            log.error("the MSM hangs: this packet process ends, and its groups with it")
        except Gone:
            pass
        finally:
            self._close()

    def _close(self) -> None:
        for group in self._groups.values():
            group.close()
        self._driver.close()

    def _take(self, message: Any) -> None:
        self._unanswered = 0
        match message:
            case Open():
                self._open(message)
            case Control():
                self._groups[message.group_id].control(message.effect)
            case MoveDriver():
                self._driver.move(message.networks)
            case MoveGroup():
                self._groups[message.group_id].move(message.address, partial(self._not_moved, message.group_id))
            case Close():
                self._groups.pop(message.group_id).close()
                self._send(Closed())
            case Seen():
                pass

    def _open(self, message: Open) -> None:
        group_id = message.group.group_id
        try:
            check_open_files(FILES_OF_A_GROUP, f"the group {message.group.name}")
            group = self._driver.open(message.domain, message.group, partial(self._tell, group_id))
        except Refused as refused:
            self._send(NotOpened(refused))
            return
        self._groups[group_id] = group
        self._send(Opened(group.socket_path))

    def _not_moved(self, group_id: bytes, refused: Refused) -> None:
        self._send(NotMoved(group_id, refused))

    def _tell(self, group_id: bytes, event: Any) -> None:
        """From any thread."""
        try:
            self._send(Told(group_id, event))
        except Gone:
            self._unanswered = MOST_UNANSWERED + 1

    def _send(self, message: Any) -> None:
        with self._sending:
            send(self._channel, message)


def main() -> None:
    """`python -m services.msm.packet_process DESCRIPTOR`."""
    set_up_log("msm")
    crash_with_threads()
    PacketProcess(channel_to_parent(int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
