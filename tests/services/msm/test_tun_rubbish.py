"""Rubbish at a TUN interface: what root, or a broken application, may put there. It is counted, and nothing stops."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcsa.errors import Rejected
from mcsa.esp.ip import Datagram, parse_datagram, write_headers
from mcsa.laboratory.namespaces import Laboratory
from tests.services.msm.link import until
from tests.services.msm.test_tun import INTERFACE, Side, heard

ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
GROUP = 93
CAUSES = ("short", "protocol", "fragment", "no-group", "foreign-source")


@pytest.fixture(params=[True, False], ids=["offload", "one by one"])
def sides(request: pytest.FixtureRequest, laboratory: Laboratory, tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    made = [Side(laboratory, name, tmp_path, offload=request.param) for name in ("alpha", "gamma")]
    yield made[0], made[1]
    for side in made:
        side.close()


def good(side: Side, payload: bytes) -> bytes:
    """As an application's kernel would make it."""
    ends = [socket.inet_aton(a) for a in (side.host.address, side.laboratory.plan.group(GROUP))]
    return write_headers(ends[0], ends[1], 5004, 5004, 0, 8, len(payload)) + payload


def rubbish(side: Side, seed: int) -> Iterator[tuple[int, bytes]]:
    """Random bytes of all sizes, and a good packet with each byte of its headers changed."""
    draw, packet = random.Random(seed), good(side, b"the only one")
    for number in range(3_000):
        content = draw.randbytes(draw.choice([1, 8, 19, 20, 27, 28, 40, 48, 100, draw.randrange(1, 1_400)]))
        kind = draw.choice([ETH_P_IP, ETH_P_IPV6])
        if number % 3:  # so that they come past the first check
            content = bytes((0x45 if kind == ETH_P_IP else 0x60,)) + content[1:]
        yield kind, content
    for place in range(28):
        for value in range(1, 256):
            yield ETH_P_IP, packet[:place] + bytes((packet[place] ^ value,)) + packet[place + 1 :]


def test_rubbish_at_the_interface_is_counted_and_applications_go_on(
    sides: tuple[Side, Side], laboratory: Laboratory
) -> None:
    alpha, gamma = sides
    opened = alpha.open(GROUP)
    gamma.open(GROUP)
    listening, speaking = gamma.application(GROUP), alpha.application()
    sent = may_pass = 0
    with alpha.host.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as door:
        for kind, content in rubbish(alpha, seed=5):
            door.sendto(content, (INTERFACE, kind))
            sent += 1
            may_pass += _may_pass(alpha, content)
            if sent % 500 == 0:
                time.sleep(0.01)  # the interface's queue is short
    speaking.sendto(b"audio", (laboratory.plan.group(GROUP), 5004))

    def taken() -> int:
        counters = alpha.driver._interface.counters
        return sum(counters[cause] for cause in CAUSES) + opened.counters().get("sent", 0)

    payloads: list[bytes] = []
    while payloads[-1:] != [b"audio"]:
        payloads.append(listening.recv(2_000))
    assert set(payloads) == {b"the only one", b"audio"}
    assert len(payloads) == may_pass + 1
    unsent = sum(count for cause, count in opened.counters().items() if cause.startswith("unsent."))
    until(lambda: taken() + unsent >= sent + 1)
    assert set(alpha.driver._interface.counters) >= {"short", "protocol", "fragment", "no-group", "foreign-source"}
    assert heard(listening) is None


def _may_pass(side: Side, content: bytes) -> bool:
    """Whether it is a datagram of this host to the group on the port that is listened at, whatever else was changed."""
    try:
        found: Datagram = parse_datagram(content, 0, len(content))
    except Rejected:
        return False
    group = socket.inet_aton(side.laboratory.plan.group(GROUP))
    to_group = found.destination == group and found.source == socket.inet_aton(side.host.address)
    return to_group and found.destination_port == 5004 and found.hop_limit > 0
