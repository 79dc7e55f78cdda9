"""UDP on loopback for applications that know nothing of MCSA: off unless the host's configuration asks for it.

    application --UDP--> 127.0.0.1:SEND --> the group, on its announced port
    the group --> UDP from 127.0.0.1:SEND to 127.0.0.1:DELIVER --> application

Any user of this machine can speak and listen there: whoever asks for it says that all of them may.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
from collections.abc import Sequence

from mcsa.errors import Refused
from services.msm.engine import BURST, POLL_FOR, GroupEngine
from services.msm.path import Received
from services.msm.stop import Stop

LOOPBACK = "127.0.0.1"
LARGEST_PAYLOAD = 65_507  # bytes: what UDP over IPv4 carries


class LoopbackOutlet:
    """See the module. Raises `Refused` where the port is taken."""

    def __init__(self, engine: GroupEngine, send_port: int, deliver_port: int) -> None:
        self._engine = engine
        self._port = engine.path.group.port
        self._deliver_to = (LOOPBACK, deliver_port)
        self._socket = _bound(send_port)
        self._stop = Stop()
        self._thread = threading.Thread(target=self._send, name=f"loopback {engine.path.group.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread. May be called twice."""
        if self._stop.set():
            self._thread.join()
            self._socket.close()
            self._stop.close()

    def deliver(self, found: Sequence[Received]) -> None:
        """Gives the application what came on the announced port. From any thread."""
        for packet in found:
            if packet.destination_port != self._port:
                continue  # RTCP and others share the group; a plain UDP socket can't tell them apart
            try:
                self._socket.sendto(packet.payload, self._deliver_to)
            except OSError:  # nobody listens, or has no room
                self._engine.path.counters["undelivered.loopback"] += 1

    def _send(self) -> None:
        with selectors.DefaultSelector() as watch:
            watch.register(self._socket, selectors.EVENT_READ)
            watch.register(self._stop, selectors.EVENT_READ)
            while not self._stop.is_set:
                watch.select(POLL_FOR)
                payloads = self._read_burst()
                if payloads:
                    self._engine.say(payloads, self._port, self._port)

    def _read_burst(self) -> list[bytes]:
        payloads: list[bytes] = []
        while len(payloads) < BURST:
            try:
                payloads.append(self._socket.recv(LARGEST_PAYLOAD))
            except BlockingIOError:
                break
            except OSError:  # an earlier delivery was refused: ICMP told so
                continue
        return payloads


def _bound(port: int) -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    door.setblocking(False)
    try:
        door.bind((LOOPBACK, port))
    except OSError as error:
        door.close()
        what = "is taken" if error.errno == errno.EADDRINUSE else f"can't be had ({os.strerror(error.errno or 0)})"
        sentence = f"UDP port {port} of loopback {what}: choose another in `loopback` of the MSM's configuration"
        raise Refused("driver", "loopback", sentence) from None
    return door
