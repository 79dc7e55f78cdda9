"""What ordinary applications get through the driver `tun`: with segmentation offload, and packet by packet, beside what
others' tunnels in user space carry for them, in the same run.

"Loss-free" is the highest rate, of steps, at which an application sent for a while and another one received every
packet; at the next step packets were lost in each of several attempts. Others are allowed to lose one in a hundred,
since they drop some at any rate. Applications, drivers and all else share the machine's cores as the kernel likes.
"""

from __future__ import annotations

import socket
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from bench.packets import rates
from bench.tunnels import HOSTS, Tunnel, libipsec, secured_group, wireguard
from bench.two_hosts import Fork, two_hosts
from bench.ways import ESP
from mcsa.laboratory.kind import kind
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.shell.batches import SOL_UDP, UDP_SEGMENT, BatchReceiver

FIGURES = {
    "offload_kpps_1400": "loss-free through tun, applications with segmentation offload (thousands a second)",
    "engine_kpps_1400": "the engine alone, opened, a core for each end (see `packets`)",
    "loss_free_kpps_1350": "loss-free through tun, packet by packet",
    "libipsec_loss_free_kpps_1350": "likewise through strongSwan's kernel-libipsec, unicast",
    "wireguard_loss_free_kpps_1350": "likewise through wireguard-go, unicast",
}
ATTEMPTS = 3
OTHERS_MAY_LOSE = 0.01
SECONDS = 0.8  # of sending, each time
PORT = 5004
SINGLE_STEPS = (20, 30, 40, 50, 60, 75, 90, 105, 120, 140, 160)  # kpps offered
OFFLOAD_STEPS = (100, 150, 200, 250, 300, 350, 400, 500, 600)
AT_ONCE = 46  # datagrams of 1,400 bytes that one call takes
_SO_RCVBUFFORCE = 33
_BUFFER = 64 << 20  # bytes
_SILENCE = 0.3  # seconds without a packet after which the sender is taken to be done
_BEHIND = 0.02  # seconds that a sender which wasn't given the core makes up for
_NUMBER = struct.Struct(">I")


class Attempt(NamedTuple):
    """Thousands a second that the sender managed, how many packets were lost, and how many there were."""

    kpps: float
    lost: int
    sent: int


def run() -> dict[str, float | None]:
    """All figures; None for what this machine hasn't."""
    if kind().name == "loopback":
        return dict.fromkeys(FIGURES)
    return {
        "offload_kpps_1400": _through(secured_group, lambda tunnel: loss_free(tunnel, OFFLOAD_STEPS, _offloaded)),
        "engine_kpps_1400": _engine(),
        "loss_free_kpps_1350": _through(secured_group, lambda tunnel: loss_free(tunnel, SINGLE_STEPS, one_by_one)),
        "libipsec_loss_free_kpps_1350": _through(libipsec, _almost_loss_free),
        "wireguard_loss_free_kpps_1350": _through(wireguard, _almost_loss_free),
    }


def _engine() -> float:
    with two_hosts() as link:
        return round(rates(link, 1_400, ESP)[1], 1)


def _almost_loss_free(tunnel: Tunnel) -> float:
    return loss_free(tunnel, SINGLE_STEPS, one_by_one, OTHERS_MAY_LOSE)


def _through(
    made: Callable[[Laboratory, Path], AbstractContextManager[Tunnel | None]], measure: Callable[[Tunnel], float]
) -> float | None:
    with tempfile.TemporaryDirectory() as folder, Laboratory(HOSTS) as laboratory:
        with made(laboratory, Path(folder)) as tunnel:
            return None if tunnel is None else round(measure(tunnel), 1)


def loss_free(
    tunnel: Tunnel, steps: Sequence[int], attempt: Callable[[Tunnel, int], Attempt], may_lose: float = 0.0
) -> float:
    """The highest rate, thousands a second, at which no more than that share is lost; steps rise. 0.0: not even the
    first. What else the machine does takes away from a single attempt, so each step has several."""
    attempt(tunnel, steps[0])  # keys are agreed on, memory is touched
    best = 0.0
    for step in steps:
        attempts = (attempt(tunnel, step) for _ in range(ATTEMPTS))
        whole = next((each.kpps for each in attempts if each.lost <= may_lose * each.sent), None)
        if whole is None:
            break
        best = max(best, whole)
    return best


# ---- applications


def one_by_one(tunnel: Tunnel, kpps: int) -> Attempt:
    """Each datagram by a call of its own, both ends."""
    payload = bytearray(1_350)

    def send(door: socket.socket, number: int) -> None:
        _NUMBER.pack_into(payload, 0, number)
        door.send(payload)

    def receive(door: socket.socket, seen: bytearray) -> None:
        into, number_of = bytearray(2_048), _NUMBER.unpack_from
        while True:
            door.recv_into(into)
            seen[number_of(into)[0]] = 1

    return _attempt(tunnel, kpps, 1, send, receive)


def _offloaded(tunnel: Tunnel, kpps: int) -> Attempt:
    """46 datagrams a call, cut and joined as late, and as early, as the kernel can."""
    payload = bytearray(1_400 * AT_ONCE)

    def send(door: socket.socket, number: int) -> None:
        for index in range(AT_ONCE):
            _NUMBER.pack_into(payload, 1_400 * index, number * AT_ONCE + index)
        door.send(payload)

    def receive(door: socket.socket, seen: bytearray) -> None:
        receiver = BatchReceiver(door)
        numbers = struct.Struct(">I1396x")
        while True:
            length = receiver.receive().length
            for (number,) in numbers.iter_unpack(receiver.slab.view[:length]):
                seen[number] = 1

    return _attempt(tunnel, kpps, AT_ONCE, send, receive)


def _attempt(
    tunnel: Tunnel,
    kpps: int,
    at_once: int,
    send: Callable[[socket.socket, int], None],
    receive: Callable[[socket.socket, bytearray], None],
) -> Attempt:
    total = round(kpps * 1_000 * SECONDS / at_once)
    receiving = _socket(tunnel.receiver, tunnel.destination)
    ready_out, ready_in = Fork.Pipe(duplex=False)
    heard_out, heard_in = Fork.Pipe(duplex=False)

    def listen() -> None:
        seen = bytearray(total * at_once)
        ready_in.send(True)
        try:
            receive(receiving, seen)
        except BlockingIOError:  # silence
            heard_in.send(sum(seen))

    listener = Fork.Process(target=listen, daemon=True)
    with receiving:
        listener.start()
        ready_out.recv()
        with _socket(tunnel.sender) as sending:
            sending.connect((tunnel.destination, PORT))
            if at_once > 1:
                sending.setsockopt(SOL_UDP, UDP_SEGMENT, 1_400)
            seconds = _pace(lambda number: send(sending, number), total, total / SECONDS)
        heard = int(heard_out.recv())
        listener.join()
    return Attempt(total * at_once / seconds / 1_000, total * at_once - heard, total * at_once)


def _pace(send: Callable[[int], None], total: int, rate: float) -> float:
    """Calls it so many times at that rate, a second; the seconds that took. It makes up for a moment without the core,
    not for a longer one: then it is just late."""
    started_at = clock = time.perf_counter()
    number = 0
    while number < total:
        now = time.perf_counter()
        clock = max(clock, now - _BEHIND)
        while number < total and clock <= now:
            send(number)
            number += 1
            clock += 1 / rate
        time.sleep(0.0003)
    return time.perf_counter() - started_at


def _socket(host: Host, address: str = "") -> socket.socket:
    """An ordinary socket; with an address, one that is bound to it, and joins it where it is a group's."""
    with host.inside():
        door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if address:
            door.bind((address, PORT))
            door.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(_SILENCE * 1e6)))
            if address.startswith("239."):
                door.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(address) + bytes(4))
    return door
