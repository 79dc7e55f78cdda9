"""Floods a group with rubbish, in rounds: `python -m tests.services.msm.flooding GROUP ADDRESS SPI...`, on a host.

Each line on standard input asks for a round; the answer is the number of datagrams sent. What is sent is random, and of
random sizes; half of the larger ones begin with one of the SPIs, so that they come past the first checks.
"""

from __future__ import annotations

import os
import random
import socket
import sys

from mcsa.esp.outbound import MAX_DATAGRAM, MAX_SEGMENTS
from mcsa.shell.batches import BatchSender
from mcsa.shell.multicast import ESP_PORT, GroupSocket

SIZES = (1, 17, 43, 44, 60, 100, 172, 200, 200, 200, 400, 1_400)
ROUND = 20_000  # datagrams, about


def main() -> None:
    group, address, *spis = sys.argv[1:]
    beginnings = [int(spi).to_bytes(4, "big") for spi in spis]
    draw, pool = random.Random(), os.urandom(1 << 20)
    with GroupSocket(group, ESP_PORT, address, bind_group=False) as door:
        door.socket.setblocking(True)
        sender, single = BatchSender(door.socket, (group, ESP_PORT)), door.socket
        print("ready", flush=True)
        for _ in sys.stdin:
            sent = _send_singles(single, (group, ESP_PORT), draw, pool)
            while sent < ROUND:
                size = draw.choice(SIZES)
                amount = min(MAX_SEGMENTS, MAX_DATAGRAM // size)
                start = draw.randrange(len(pool) - amount * size)
                packets = bytearray(pool[start : start + amount * size])
                if size >= 44 and draw.random() < 0.5:
                    for place in range(0, amount * size, size):
                        packets[place : place + 4] = draw.choice(beginnings)
                sender.send(memoryview(packets), size)
                sent += amount
            print(sent, flush=True)


def _send_singles(door: socket.socket, to: tuple[str, int], draw: random.Random, pool: bytes) -> int:
    """One by one: the empty one, the largest there can be (45 fragments), what looks like IKE or a keepalive."""
    for datagram in (b"", b"\xff", bytes(100), pool[:MAX_DATAGRAM], pool[: draw.randrange(MAX_DATAGRAM)]):
        door.sendto(datagram, to)
    return 5


if __name__ == "__main__":
    main()
