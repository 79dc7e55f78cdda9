"""A model of the kernel's tables of IPsec: it refuses what the kernel refuses, and looks at what has to hold."""

from __future__ import annotations

from mcsa.xfrm.operations import AddState, DeletePolicy, DeleteReported, DeleteState, Operation, RenewState, SetPolicy
from mcsa.xfrm.policy import KernelPolicy
from mcsa.xfrm.state import KernelState
from services.msm.kernel_policies import Reqids

REQIDS = Reqids(100, 101)


class Kernel:
    """States by destination and SPI, policies by direction and selector, as include/uapi/linux/xfrm.h has them."""

    def __init__(self) -> None:
        self.states: dict[tuple[object, int], KernelState] = {}
        self.policies: dict[tuple[str, object], KernelPolicy] = {}
        self.sent_with: set[int] = set()

    def carry_out(self, operations: list[Operation]) -> None:
        for operation in operations:
            match operation:
                case AddState(state):
                    assert (state.destination, state.spi) not in self.states, "the kernel says EEXIST"
                    if state.reqid == REQIDS.sending:
                        assert state.spi not in self.sent_with, "numbers of a key begin again"
                        self.sent_with.add(state.spi)
                    self.states[state.destination, state.spi] = state
                case RenewState(state):
                    assert (state.destination, state.spi) in self.states, "the kernel says ESRCH"
                case DeleteState(state):
                    del self.states[state.destination, state.spi]
                case SetPolicy(policy):
                    self.policies[policy.direction, policy.selector] = policy
                case DeletePolicy(policy):
                    self.policies.pop((policy.direction, policy.selector), None)
                case DeleteReported():
                    raise AssertionError("a table knows what it has")
            self.check()

    def check(self) -> None:
        """What holds after each single operation, since packets pass meanwhile."""
        [outward] = [p for p in self.policies.values() if p.direction == "out" and not p.selector.destination_port]
        if not outward.blocks:
            assert outward.template is not None
            named = [s for s in self.states.values() if s.spi == outward.template.spi]
            assert [state.reqid for state in named] == [REQIDS.sending]
        for state in self.states.values():
            assert (state.replay_window > 0) == (state.reqid == REQIDS.receiving)

    @property
    def sends_under(self) -> int | None:
        [policy] = [p for p in self.policies.values() if p.direction == "out" and not p.selector.destination_port]
        assert policy.template is not None
        return None if policy.blocks else policy.template.spi

    @property
    def hears(self) -> set[tuple[int, str]]:
        return {(s.spi, str(s.source)) for s in self.states.values() if s.reqid == REQIDS.receiving}
