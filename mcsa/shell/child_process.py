"""A process of our own beside this one, with a channel between them that nobody else has.

Either end sees when the other has ended: the channel is closed then, also where it was killed. Where the other takes
nothing more, a send fails after a while with an `OSError`, and the channel is of no use any more.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

from mcsa.shell.process import forbid_core_dumps

END_WITHIN = 5.0  # seconds
SENT_WITHIN = struct.pack("ll", 5, 0)  # a timeval: for so long an end waits for the other to make room


class ChildProcess:
    """Runs a module as `python -m MODULE DESCRIPTOR`; it has what this process has: user, network namespace, limits."""

    def __init__(self, module: str) -> None:
        self._socket, theirs = socket.socketpair()
        for end in (self._socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, SENT_WITHIN)
        with theirs:
            command = [sys.executable, "-m", module, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        self.channel = Connection(os.dup(self._socket.fileno()))

    @property
    def id(self) -> int:
        """The process's."""
        return self._process.pid

    @property
    def has_room(self) -> bool:
        """A short message can be sent without waiting."""
        return bool(select.select([], [self._socket], [], 0)[1])

    def hang_up(self) -> None:
        """Either end reads to the end from now on, by which the process ends. May be called twice."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Waits for the process's end, and kills it where that doesn't come. Nobody uses the channel any more."""
        self.hang_up()
        try:
            self._process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.channel.close()
        self._socket.close()


def channel_to_parent(descriptor: int) -> Connection:
    """The child's end. What ends a service is told to the process that the operator started, and not to this one."""
    forbid_core_dumps()
    os.set_inheritable(descriptor, False)
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(ValueError):  # not in the main thread: a test's
            signal.signal(number, signal.SIG_IGN)
    return Connection(descriptor)
