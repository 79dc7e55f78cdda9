"""What the `xfrm` driver would put into each host's kernel, beside the packet path that does the same in user space.

The same core, the same effects: after each of them both send under the same SPI, and hear the same senders.
"""

from __future__ import annotations

from typing import Any

import pytest

from mcsa.esp.spi import spi_for
from mcsa.path_control import DropEpoch, InstallEpoch, PauseSending, ResumeSending, SetRoster, SwitchSending
from mcsa.policy import complete_policy
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm.kernel_table import KernelTable
from tests.services.msm.kernel_model import REQIDS, Kernel
from tests.simulation.domain import Domain
from tests.simulation.nodes import MsmNode
from tests.simulation.test_groups import eject, gathered, heard

CONTROL = (InstallEpoch, DropEpoch, SetRoster, SwitchSending, PauseSending, ResumeSending)


class TwofoldNode(MsmNode):
    """An MSM that tells both."""

    def __init__(self, *arguments: Any) -> None:
        self.tables: dict[bytes, KernelTable] = {}
        self.kernels: dict[bytes, Kernel] = {}
        self.switches: list[int | None] = []
        super().__init__(*arguments)

    def _open(self, domain: str, group: GroupDescription, *, send_only: bool = False) -> None:
        super()._open(domain, group, send_only=send_only)
        self.tables[group.group_id] = KernelTable(domain, group, self.address, REQIDS)
        self.kernels[group.group_id] = Kernel()
        self.kernels[group.group_id].carry_out(self.tables[group.group_id].opening())

    def carry_out(self, effect: Any) -> None:
        super().carry_out(effect)
        if isinstance(effect, CONTROL) and effect.group_id in self.paths:
            self.kernels[effect.group_id].carry_out(self.tables[effect.group_id].control(effect, self.now))
            self.compare(effect.group_id)

    def compare(self, group_id: bytes) -> None:
        path, kernel = self.paths[group_id], self.kernels[group_id]
        current = path._sending._current
        sends = None if current is None or path._sending.paused else spi_for(current.epoch, current.sender_id)
        assert kernel.sends_under == sends
        self.switches.append(sends)
        senders = {number: at for number, at in path._roster.addresses.items() if number != path._roster.own}
        opens = {(spi_for(epoch, number), at) for epoch in path._keys for number, at in senders.items()}
        assert kernel.hears == opens


class TwofoldDomain(Domain):
    """All of whose hosts are such."""

    def msm_node(self, name: str, address: str, seed: int) -> MsmNode:
        return TwofoldNode(self.world, self.switchboard, name, address, seed, self._accepts)


@pytest.mark.parametrize("gkm", ["gkmp", "lkh", "kd", "cbt"])
def test_a_life_of_joins_rekeys_and_ejections_looks_the_same_in_the_kernel(gkm: str) -> None:
    domain = TwofoldDomain(hosts=("alpha", "beta", "gamma"))
    group_id = gathered(domain, "alpha", "beta", "gamma", policy=complete_policy(GroupPolicy(gkm=gkm)))
    for name in ("alpha", "beta", "gamma"):
        assert domain.msm[name].send(group_id, name.encode())
    domain.network.run_for(1.0)
    assert set(heard(domain.msm["beta"], group_id)) == {b"alpha", b"gamma"}
    domain.age_key(group_id)
    domain.network.run_for(5.0)
    eject(domain, "carol")
    domain.network.run_for(5.0)
    alpha, gamma = domain.msm["alpha"], domain.msm["gamma"]
    assert isinstance(alpha, TwofoldNode)
    assert isinstance(gamma, TwofoldNode)
    assert gamma.kernels[group_id].sends_under is None
    assert alpha.kernels[group_id].sends_under is not None
    assert len({spi for spi in alpha.switches if spi is not None}) >= 3
    assert {at for _, at in alpha.kernels[group_id].hears} == {domain.msm["beta"].address, "198.51.100.1"}


def test_a_host_that_is_cut_off_is_paused_in_the_kernel_too() -> None:
    domain = TwofoldDomain(hosts=("alpha", "beta"))
    group_id = gathered(domain, "alpha", "beta")
    alpha = domain.msm["alpha"]
    assert isinstance(alpha, TwofoldNode)
    assert alpha.kernels[group_id].sends_under is not None
    domain.authorizer.kill()
    domain.network.run_for(20.0)
    assert alpha.kernels[group_id].sends_under is None
