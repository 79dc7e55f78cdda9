"""Groups at work on hosts of a laboratory, without Authorizer: for tests of what passes between them on a real wire."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from mcsa.esp.derive import TrafficKey, derive_traffic_key
from mcsa.esp.inbound import CAUSES
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey
from mcsa.laboratory.namespaces import Laboratory
from mcsa.networks import Networks
from mcsa.policy import complete_policy
from mcsa.shell.local_frames import LARGEST_FRAME, OutgoingFrame, connect_frames, parse_incoming
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm.drivers import DriverSettings
from services.msm.drivers.relay import RelayDriver
from services.msm.events import InstallEpoch, SetRoster, SwitchSending

DOMAIN, GROUP_ID, EPOCH, PORT = "example.org", bytes(range(16)), 1_800_000_000_000, 5004
KEY = GroupKey(bytes(range(32)))
WITHIN = 20.0  # seconds that only a broken program needs


def key_of(sender_id: int, suite: str = "aes-256-gcm") -> TrafficKey:
    """What a sender of the group seals with."""
    return derive_traffic_key(KEY, DOMAIN, GROUP_ID, EPOCH, suite_named(suite), sender_id)


def until(happened: Callable[[], object]) -> None:
    """Returns once something is so."""
    give_up_at = time.monotonic() + WITHIN
    while not happened():
        assert time.monotonic() < give_up_at, "it didn't happen"
        time.sleep(0.002)


class Host:
    """One group at work on a host under its own sender ID, and an application at its local socket."""

    def __init__(
        self, laboratory: Laboratory, name: str, folder: Path, group: str, *, wire: str = "udp", suite: str = ""
    ) -> None:
        host = laboratory[name]
        self.address = host.address_for(group)
        self.told: list[Any] = []
        policy = complete_policy(GroupPolicy(wire=wire, suite=suite or "aes-256-gcm"))
        description = GroupDescription(group_id=GROUP_ID, name="audio", address=group, port=PORT, ttl=2, policy=policy)
        with host.inside():
            self.group = RelayDriver(DriverSettings(Networks.only(self.address), folder / name)).open(
                DOMAIN, description, self.told.append
            )
        laboratory.await_membership(host, group)
        self.application = connect_frames(Path(self.group.socket_path))
        self.application.settimeout(WITHIN)

    def key(self, addresses: Mapping[int, str], own: int) -> None:
        """Installs the epoch and the roster; it sends as `own` from now on."""
        self.group.control(InstallEpoch(GROUP_ID, EPOCH, KEY))
        self.group.control(SetRoster(GROUP_ID, dict(addresses), own, None))
        self.group.control(SwitchSending(GROUP_ID, EPOCH, own))
        until(lambda: self.group.engine.path.has_sender(own) and (EPOCH, own) in self._switched())

    def _switched(self) -> set[tuple[int, int]]:
        return self.group.engine.path._sending.switched

    def say(self, payload: bytes) -> None:
        self.application.send(OutgoingFrame(PORT, PORT, payload).encode())

    def hear(self) -> tuple[int, bytes]:
        """The next payload, and who sent it."""
        frame = parse_incoming(self.application.recv(LARGEST_FRAME))
        return frame.sender_id, frame.payload

    def arrived(self) -> int:
        """Datagrams that reached the packet path, each counted once."""
        counters = self.group.counters()
        arrived = counters.get("opened", 0) - counters.get("held-then-opened", 0)
        return arrived + sum(counters.get(cause, 0) for cause in CAUSES)

    def dropped(self) -> dict[str, int]:
        """By cause."""
        return {cause: n for cause, n in self.group.counters().items() if cause in CAUSES and n}

    def close(self) -> None:
        self.application.close()
        self.group.close()


def group_ethernet(group: str) -> bytes:
    """The Ethernet header of a frame to a group (RFC 1112 section 6.4, RFC 2464 section 7)."""
    packed = ip_address(group).packed
    if len(packed) == 4:
        return bytes((0x01, 0x00, 0x5E, packed[1] & 0x7F, *packed[2:])) + bytes.fromhex("020000000001 0800")
    return b"\x33\x33" + packed[12:] + bytes.fromhex("020000000001 86dd")


def raw_door(laboratory: Laboratory, name: str) -> socket.socket:
    """Sends Ethernet frames as they are from a host's interface: who can do that can claim any source."""
    host = laboratory[name]
    with host.inside():
        door = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        door.bind((host.interface, 0))
        door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    return door
