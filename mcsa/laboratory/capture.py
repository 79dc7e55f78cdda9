"""Listens on a wire: `python -m mcsa.laboratory.capture --output FILE.pcap`, run on a host or the bridge.

Writes every frame that passes the interface, both ways, until SIGTERM or SIGINT; then prints how many there were of
each kind, as one line of JSON. Prints "capturing" when it is ready. Needs CAP_NET_RAW.
"""

from __future__ import annotations

import argparse
import json
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mcsa.laboratory.packets import LARGEST_FRAME, classify, pcap_header, pcap_record

if TYPE_CHECKING:
    from mcsa.laboratory.namespaces import Host

_ETH_P_ALL = 3  # linux/if_ether.h
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC = 263, 1, 1  # linux/if_packet.h
_SO_RCVBUFFORCE = 33
_BUFFER_SIZE = 32 << 20  # bytes; a wiretap that misses packets would prove nothing


def wire(interface: str) -> socket.socket:
    """A non-blocking socket that gives every frame on an interface, also those not addressed to it."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # 0: nothing arrives before it is bound
    # struct packet_mreq: index, type, address length, address
    promiscuous = struct.pack("=iHH8s", socket.if_nametoindex(interface), _PACKET_MR_PROMISC, 0, b"")
    tap.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, promiscuous)
    try:
        tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_SIZE)
    except PermissionError:  # root of a user namespace only: what the host allows
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_SIZE)
    tap.bind((interface, _ETH_P_ALL))
    tap.setblocking(False)
    return tap


def read_frames(tap: socket.socket, take: Callable[[bytes], None]) -> None:
    """Hands over all frames that wait."""
    while True:
        try:
            frame = tap.recv(LARGEST_FRAME)
        except BlockingIOError:
            return
        take(frame)


def capture(interface: str, output: BinaryIO, nats_port: int) -> dict[str, int]:
    """Writes frames to a pcap file until a signal to stop; gives the number of each kind."""
    counts: Counter[str] = Counter()

    def take(frame: bytes) -> None:
        output.write(pcap_record(time.time(), frame))
        counts[classify(frame, nats_port)] += 1

    # A signal writes a byte to `woken`, so that it can't be missed between two looks.
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with wire(interface) as tap, selectors.DefaultSelector() as selector:
        selector.register(tap, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        output.write(pcap_header())
        print("capturing", flush=True)
        while all(key.fileobj is tap for key, _ in selector.select()):
            read_frames(tap, take)
        read_frames(tap, take)
    return dict(counts)


class Capture:
    """A capture that runs on a host of the laboratory (or its bridge) from construction until `stop`."""

    def __init__(self, host: Host, output: Path, nats_port: int = 4222) -> None:
        self.output = output
        argv = [sys.executable, "-m", __name__, "--interface", host.interface, "--output", str(output)]
        self._process = host.popen([*argv, "--nats-port", str(nats_port)], stdout=subprocess.PIPE, text=True)
        if self._process.stdout is None or self._process.stdout.readline() != "capturing\n":
            raise RuntimeError(f"the capture on {host.name} didn't start: see its error output")

    def stop(self) -> dict[str, int]:
        """Ends the capture; the number of frames of each kind."""
        self._process.terminate()
        counts: dict[str, int] = json.loads(self._process.communicate()[0])
        return counts


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m mcsa.laboratory.capture", description=__doc__)
    arguments.add_argument("--output", type=Path, required=True, help="the pcap file to write")
    arguments.add_argument("--interface", default="eth0")
    arguments.add_argument("--nats-port", type=int, default=4222, help="TCP port that counts as NATS")
    given = arguments.parse_args()
    with given.output.open("wb") as output:
        counts = capture(given.interface, output, given.nats_port)
    print(json.dumps(counts, sort_keys=True))


if __name__ == "__main__":
    main()
