"""A host with 200 groups at once."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.suite import suite_named
from mcsa.laboratory.namespaces import Laboratory
from mcsa.networks import Networks
from mcsa.policy import complete_policy
from mcsa.shell.local_frames import LARGEST_FRAME, connect_frames, parse_incoming
from mcsa.shell.multicast import ESP_PORT, GroupSocket
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm.drivers import DriverSettings
from services.msm.drivers.relay import RelayDriver, RelayedGroup
from services.msm.events import InstallEpoch, SetRoster
from tests.services.msm.link import DOMAIN, EPOCH, KEY, PORT, WITHIN

GROUPS, SENDER = 200, 7
FILES, THREADS = 8, 2  # of one group


class Many:
    """200 groups on one host, each with a key and a sender that it knows of."""

    def __init__(self, laboratory: Laboratory, folder: Path, opened: ExitStack) -> None:
        self.host, self.sender = laboratory["beta"], laboratory["alpha"]
        self.driver = RelayDriver(DriverSettings(Networks.only(self.host.address), folder))
        self.descriptions = [self.description(laboratory, number) for number in range(GROUPS)]
        self.groups: list[RelayedGroup] = []
        with self.host.inside():
            for description in self.descriptions:
                group = self.driver.open(DOMAIN, description, [].append)
                opened.callback(group.close)
                self.groups.append(group)
        for description, group in zip(self.descriptions, self.groups, strict=True):
            group.control(InstallEpoch(description.group_id, EPOCH, KEY))
            group.control(SetRoster(description.group_id, {SENDER: self.sender.address}, None, None))

    @staticmethod
    def description(laboratory: Laboratory, number: int) -> GroupDescription:
        return GroupDescription(
            group_id=number.to_bytes(8, "big") + bytes(8),
            name=f"channel {number}",
            address=laboratory.plan.group(number + 1),
            port=PORT,
            policy=complete_policy(GroupPolicy()),
        )


def association(group_id: bytes) -> OutboundAssociation:
    suite = suite_named("aes-256-gcm")
    return OutboundAssociation(derive_traffic_key(KEY, DOMAIN, group_id, EPOCH, suite, SENDER))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_200_groups_on_one_host_are_heard_each_at_its_own_socket(laboratory: Laboratory, tmp_path: Path) -> None:
    files, threads = open_files(), threading.active_count()
    with ExitStack() as opened:
        many = Many(laboratory, tmp_path, opened)
        assert open_files() - files <= FILES * GROUPS
        assert threading.active_count() - threads <= THREADS * GROUPS
        for description, group in zip(many.descriptions, many.groups, strict=True):
            laboratory.await_membership(many.host, description.address)
            application = opened.enter_context(connect_frames(Path(group.socket_path)))
            application.settimeout(WITHIN)
            with (
                many.sender.inside(),
                GroupSocket(description.address, ESP_PORT, many.sender.address, bind_group=False) as door,
            ):
                door.send(association(description.group_id).seal(description.name.encode(), PORT, PORT))
            assert parse_incoming(application.recv(LARGEST_FRAME)).payload == description.name.encode()
    assert open_files() <= files + 1  # nothing is left but what the first connection made for good
    assert threading.active_count() == threads
