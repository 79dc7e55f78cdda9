"""What the tests of audio share: a stream as datagrams, and a wire between two local sockets."""

from __future__ import annotations

import random
import selectors
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mcsa.audio.format import AudioFormat
from mcsa.audio.sender import RtpSender
from mcsa.shell.local_frames import FrameClient, FrameServer, IncomingFrame, parse_outgoing

SENDER = 7
PORT = 5004
MONO = AudioFormat(48_000, 1)


def from_seed(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def packets_of(samples: bytes, stream: RtpSender) -> list[bytes]:
    """The RTP packets of these samples."""
    size = stream.format.frames_per_packet * stream.format.frame_size
    return [stream.packet(samples[start : start + size]) for start in range(0, len(samples), size)]


class Wire:
    """Two hosts' local sockets: what is sent at `here` arrives at `there`, after `faults` had it."""

    def __init__(self, folder: Path, faults: Callable[[bytes], list[bytes]]) -> None:
        self.here, self.there = FrameServer(folder / "here.sock"), FrameServer(folder / "there.sock")
        self._faults = faults
        self._closing = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        watch = selectors.DefaultSelector()
        for server in (self.here, self.there):
            watch.register(server, selectors.EVENT_READ)
        while not self._closing:
            for key, _ in watch.select(0.02):
                if isinstance(key.fileobj, FrameServer):
                    client = key.fileobj.accept()
                    if client is not None:
                        watch.register(client, selectors.EVENT_READ, key.fileobj)
                elif isinstance(key.fileobj, FrameClient):
                    self._carry(key.fileobj, key.data, key.fd, watch)

    def _carry(self, client: FrameClient, of: FrameServer, descriptor: int, watch: selectors.BaseSelector) -> None:
        while (frame := of.receive(client)) is not None:
            sent = parse_outgoing(frame)
            for payload in self._faults(sent.payload):
                arriving = IncomingFrame(SENDER, sent.source_port, sent.destination_port, payload).encode()
                self.there.deliver(arriving)
                self.here.deliver(arriving)  # the sender hears the group, too
        if client.fileno() < 0:
            watch.unregister(descriptor)

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        self.here.close()
        self.there.close()


@contextmanager
def wire(folder: Path, faults: Callable[[bytes], list[bytes]] = lambda payload: [payload]) -> Iterator[Wire]:
    made = Wire(folder, faults)
    try:
        yield made
    finally:
        made.close()
