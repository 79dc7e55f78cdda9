"""What the tests in the virtual machine share: hosts with a driver each, applications on them, packets by hand."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.networks import Networks
from mcsa.policy import complete_policy
from mcsa.shell.local_frames import LARGEST_FRAME, IncomingFrame, OutgoingFrame, connect_frames, parse_incoming
from mcsa.shell.multicast import GroupSocket
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm.drivers import DriverSettings, GroupAtWork, driver_named
from services.msm.events import DropEpoch, InstallEpoch, SetRoster, SwitchSending

GROUP_ID, DOMAIN, EPOCH, PORT = bytes(range(16)), "example.org", 1_800_000_000_000, 5004
KEY, NEXT_KEY = GroupKey(bytes(32)), GroupKey(b"\1" * 32)
AUTHORIZER = 9
SENDERS = {"alpha": 1, "beta": 2, "gamma": 3}
WITHIN = 10.0  # seconds that something may take in an emulated machine
NOTHING_FOR = 0.7  # seconds after which something doesn't come any more


def described(address: str, **policy: Any) -> GroupDescription:
    """A group of audio."""
    complete = complete_policy(GroupPolicy(**policy))
    return GroupDescription(group_id=GROUP_ID, name="audio", address=address, port=PORT, ttl=2, policy=complete)


def eventually(condition: Callable[[], object]) -> None:
    """Returns once it holds."""
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, "it didn't come to that"
        time.sleep(0.02)


class Application:
    """A program that knows nothing of MCSA: a UDP socket on the group's own address, which it joined."""

    def __init__(self, host: Host, address: str, group: str, port: int = PORT) -> None:
        with host.inside():
            self.door = GroupSocket(group, port, address, ttl=2, shared=True)
        self.door.socket.settimeout(WITHIN)

    def say(self, payload: bytes, port: int | None = None) -> None:
        if port is None:
            self.door.socket.sendmsg([payload], self.door.ancillary, 0, self.door.destination)
        else:
            destination = (self.door.destination[0], port, *self.door.destination[2:])
            self.door.socket.sendmsg([payload], self.door.ancillary, 0, destination)

    def hear(self) -> bytes:
        return self.door.socket.recv(65_535)

    def hears_nothing(self) -> bool:
        self.door.socket.settimeout(NOTHING_FOR)
        try:
            self.door.socket.recv(65_535)
        except TimeoutError:
            return True
        finally:
            self.door.socket.settimeout(WITHIN)
        return False

    def close(self) -> None:
        self.door.close()


class Member:
    """A host of the group with a driver of its own; its applications, by the driver that it has."""

    def __init__(
        self,
        laboratory: Laboratory,
        name: str,
        driver: str,
        group: GroupDescription,
        folder: Path,
        networks: Networks | None = None,
    ) -> None:
        """`networks`: the host's, where it has several."""
        self.name, self.number, self.told = name, SENDERS[name], list[Any]()
        self.host, self.group = laboratory[name], group
        networks = networks or Networks.only(address_on(self.host, group.address))
        self.address = networks.own_address(group.address)
        settings = DriverSettings(networks, folder / name)
        settings.sockets.mkdir(mode=0o700, exist_ok=True)
        with self.host.inside():
            self.driver = driver_named(driver)(settings)
            try:
                self.at_work: GroupAtWork = self.driver.open(DOMAIN, group, self.told.append)
            except BaseException:
                self.driver.close()
                raise
        laboratory.await_membership(self.host, group.address, *group.sources[:1])
        self._local = connect_frames(Path(self.at_work.socket_path))
        self._local.settimeout(WITHIN)
        ordinary = driver == "xfrm" and not group.sources  # an application of a source-specific group knows its sources
        self.application = Application(self.host, self.address, group.address) if ordinary else None
        self.is_closed = False

    def control(self, *effects: Any) -> None:
        for effect in effects:
            self.at_work.control(effect)
        time.sleep(0.3)

    def say(self, payload: bytes) -> None:
        """By an application that is as it is, or where there can be none by the local socket."""
        if self.application is not None:
            self.application.say(payload)
        else:
            self.say_frame(payload)

    def hear(self) -> bytes:
        return self.application.hear() if self.application is not None else self.hear_frame().payload

    def say_frame(self, payload: bytes, port: int = PORT) -> None:
        self._local.send(OutgoingFrame(port, PORT, payload).encode())

    def hear_frame(self) -> IncomingFrame:
        return parse_incoming(self._local.recv(LARGEST_FRAME))

    def disconnect(self) -> None:
        """From the local socket."""
        self._local.close()

    def count(self, cause: str) -> int:
        return self.at_work.counters().get(cause, 0)

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._local.close()
            if self.application is not None:
                self.application.close()
            self.at_work.close()
            self.driver.close()


class Group:
    """Members in one group, keyed alike. Closes them."""

    def __init__(self, laboratory: Laboratory, folder: Path, address: str, **policy: Any) -> None:
        self.laboratory, self.folder = laboratory, folder
        self.description = described(address, **policy)
        self.version = 6 if ":" in address else 4
        self.members: dict[str, Member] = {}
        self.addresses = {number: address_on(laboratory[name], address) for name, number in SENDERS.items()}
        self.addresses[AUTHORIZER] = address_on(laboratory["infrastructure"], address)
        self._open = ExitStack()

    def member(
        self, name: str, driver: str = "xfrm", *, keyed: bool = True, networks: Networks | None = None
    ) -> Member:
        member = Member(self.laboratory, name, driver, self.description, self.folder, networks)
        self.addresses[member.number] = member.address
        self.members[name] = member
        self._open.callback(member.close)
        if keyed:
            self.key(member)
        return member

    def key(self, member: Member, epoch: int = EPOCH, key: GroupKey = KEY) -> None:
        member.control(InstallEpoch(GROUP_ID, epoch, key), self.roster(member))
        member.control(SwitchSending(GROUP_ID, epoch, member.number))

    def roster(self, member: Member, *without: int) -> SetRoster:
        addresses = {number: address for number, address in self.addresses.items() if number not in without}
        return SetRoster(GROUP_ID, addresses, member.number, AUTHORIZER)

    def association(self, number: int, epoch: int = EPOCH, key: GroupKey = KEY) -> OutboundAssociation:
        """To seal by hand, in a sender's name."""
        suite = suite_named(self.description.policy.suite)
        return OutboundAssociation(derive_traffic_key(key, DOMAIN, GROUP_ID, epoch, suite, number))

    @contextmanager
    def wire_of(self, name: str) -> Iterator[Callable[[bytes], None]]:
        """Sends ESP packets to the group as they are, from a host."""
        host, esp = self.laboratory[name], self.description.policy.wire == "esp"
        with host.inside():
            address = address_on(host, self.description.address)
            door = GroupSocket(
                self.description.address, 0 if esp else 4500, address, ttl=2, bind_group=False, raw_esp=esp
            )
        with door:
            yield door.send

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()


def address_on(host: Host, group: str) -> str:
    """A host's address of the group's family."""
    return host.address6 if ":" in group else host.address


def drop(epoch: int) -> DropEpoch:
    return DropEpoch(GROUP_ID, epoch)


def at_sequence(association: OutboundAssociation, number: int) -> bytes:
    """A packet with this sequence number and nothing else that is special."""
    packet = b""
    for _ in range(number - association.sealed):
        packet = association.seal(b"number %d" % number, PORT, PORT)
    assert struct.unpack_from(">I", packet, 4) == (number,)
    return packet
