"""An MSM that does not do what it is told: `python -m mcsa.demo.hostile --config FILE`.

It keeps every key it ever had, ignores every instruction to drop one, to stop sending or to leave, and tries every key
on every packet that it has none for. It is what an ejected member may run: the rest must be safe from it.
"""

from __future__ import annotations

import os
from typing import Any

from cryptography.exceptions import InvalidTag

from mcsa.endpoint import Answer, Requested
from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.spi import split_spi
from mcsa.esp.suite import ICV_SIZE, IV_SIZE, suite_named
from mcsa.keys import GroupKey
from mcsa.shell.run import run_service
from mcsa.v1 import msm_pb2 as wire
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.config import MsmSettings
from services.msm.core import MsmCore
from services.msm.core_groups import Settings
from services.msm.events import DropEpoch, InstallEpoch, PauseSending
from services.msm.path import GroupPath
from services.msm.service import MsmService

HEADER_SIZE = 8  # SPI and sequence number, RFC 4303 section 2
BROKEN_INTO, KEPT_OUT = "broken-into", "kept-out"


class HostilePath(GroupPath):
    """See the module. Counts under `BROKEN_INTO` and `KEPT_OUT` what came of its attempts."""

    def __init__(self, domain: str, group: GroupDescription) -> None:
        super().__init__(domain, group)
        self._every_key: dict[int, GroupKey] = {}

    def carry_out(self, effect: Any, now: float) -> list[Any]:
        """Does what helps it."""
        if isinstance(effect, DropEpoch | PauseSending):
            return []
        if isinstance(effect, InstallEpoch):
            self._every_key[effect.epoch] = effect.key
        return super().carry_out(effect, now)

    def hold(self, datagram: bytes, source: str, now: float) -> None:
        """What it has no key for it tries to open all the same."""
        super().hold(datagram, source, now)
        self.counters[BROKEN_INTO if self._break_into(datagram) else KEPT_OUT] += 1

    def _break_into(self, datagram: bytes) -> bool:
        spi = int.from_bytes(datagram[:4], "big")
        return any(self._opens(epoch, key, spi, datagram) for epoch, key in self._every_key.items())

    def _opens(self, epoch: int, key: GroupKey, spi: int, datagram: bytes) -> bool:
        """Whether the key of that epoch opens it, whatever epoch the packet says it is of."""
        _, sender_id = split_spi(spi)
        suite = suite_named(self.group.policy.suite)
        traffic = derive_traffic_key(key, self._domain, self.group.group_id, epoch, suite, sender_id)
        header, rest = datagram[:HEADER_SIZE], datagram[HEADER_SIZE:]
        if len(rest) < IV_SIZE + ICV_SIZE:
            return False
        try:
            traffic.cipher().decrypt(traffic.salt + rest[:IV_SIZE], rest[IV_SIZE:], header)
        except InvalidTag:
            return False
        return True


class HostileCore(MsmCore):
    """Stays where it was told to leave."""

    def _leave_group(self, request: Requested, now: float) -> list[Any]:
        return [Answer(request.token, wire.LeaveGroupResponse())]


class HostileMsmService(MsmService):
    """See the module."""

    def make_core(self, settings: Settings) -> MsmCore:
        """One that doesn't leave."""
        assembly = self._assembly
        return HostileCore(assembly.credentials, assembly.trust, os.urandom, settings, self._path_counters)

    def make_path(self, domain: str, group: GroupDescription) -> GroupPath:
        """One that keeps keys."""
        return HostilePath(domain, group)


if __name__ == "__main__":
    run_service("msm", MsmSettings, HostileMsmService)
