"""What the kernel's IPsec has to have for one group: states and policies, and the steps from one wish to the next.

Pure. Each effect of the core on the group (`mcsa.path_control`) becomes operations for the kernel, in the order in
which they have to be carried out: what is received under is there before anybody sends under it, and goes last. The
policies are in `kernel_policies.py`.

A state that receives is for one sender and one epoch; it names the sender's address as the roster has it, also in its
selector, against which the kernel checks what it opened. All of them have one reqid and the state that sends has
another: so the kernel never sends under another sender's SPI, and never opens a packet under this host's own. States
expire unless `renewing` is carried out in time, so that nothing is sent any more soon after the MSM has died.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from mcsa.addresses import parse_address
from mcsa.errors import Refused
from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.spi import epoch_tag
from mcsa.esp.suite import suite_named
from mcsa.gkm.interface import scheme_named
from mcsa.keys import GroupKey
from mcsa.path_control import DropEpoch, InstallEpoch, PauseSending, ResumeSending, SetRoster, SwitchSending
from mcsa.v1.types_pb2 import GroupDescription
from mcsa.xfrm.layout import Address
from mcsa.xfrm.operations import AddState, DeletePolicy, DeleteState, Operation, RenewState, SetPolicy
from mcsa.xfrm.policy import KernelPolicy
from mcsa.xfrm.state import LARGEST_WINDOW, KernelState
from services.msm.kernel_policies import GroupPolicies, Reqids
from services.msm.kernel_senders import KernelSenders

CONTROL_GROUP = "control"  # the name that CSMs know it by
RECEIVING_LIVES_FOR = 600  # seconds without `renewing`
RENEW_EACH = 10  # seconds at most
NEARLY_EXHAUSTED_AT = 2**31  # packets: as `mcsa.esp.outbound` has it


class _Place(NamedTuple):
    epoch: int
    sender_id: int


@dataclass(frozen=True, slots=True)
class _Placed:
    state: KernelState
    added_at: float


class KernelTable:
    """See the module. Raises `Refused("driver")` for what the kernel's IPsec can't do."""

    def __init__(self, domain: str, group: GroupDescription, address: str, reqids: Reqids) -> None:
        check_group(group)
        self.group = group
        self.reqids = reqids
        self.destination = parse_address(group.address)
        self.in_udp = group.policy.wire != "esp"
        self.senders = KernelSenders(self.destination)
        self._policies = GroupPolicies(self.destination, reqids, self.in_udp, group.name == CONTROL_GROUP)
        self._domain = domain
        self._own_address = parse_address(address)
        self._suite = suite_named(group.policy.suite)
        self._window = max(1, min(group.policy.replay_window, LARGEST_WINDOW))
        self._sending_lives_for = max(10, 2 * group.policy.beacon_silence_ms // 1000)  # as long as a deaf one may send
        self._keys: dict[int, GroupKey] = {}
        self._receiving: dict[_Place, _Placed] = {}
        self._sent: dict[_Place, _Placed] = {}  # states that send, or did and are still there
        self._switched: set[_Place] = set()
        self._current: _Place | None = None
        self.paused = False

    # ---- what there is

    @property
    def states(self) -> list[KernelState]:
        """All that the kernel should have."""
        return [placed.state for placed in (*self._receiving.values(), *self._sent.values())]

    def state_of(self, destination: Address, spi: int) -> KernelState | None:
        """The one of these numbers, if it is of this group."""
        return next((s for s in self.states if (s.destination, s.spi) == (destination, spi)), None)

    @property
    def sending(self) -> KernelState | None:
        """The one that sends now, or will again after a pause."""
        return None if self._current is None else self._sent[self._current].state

    @property
    def tags(self) -> frozenset[int]:
        """Of the epochs that packets are opened under."""
        return frozenset(epoch_tag(epoch) for epoch in self._keys)

    @property
    def socket_policies(self) -> list[KernelPolicy]:
        """Those that the MSM's own socket needs, where the host's are not for it."""
        return self._policies.of_socket(self._sends_under())

    # ---- steps

    def opening(self) -> list[Operation]:
        """For the group's beginning: nothing passes yet. Policies of an earlier group at this address are replaced."""
        operations: list[Operation] = [SetPolicy(policy) for policy in self._policies.all(self._sends_under())]
        return operations if self.in_udp else [*operations, DeletePolicy(self._policies.letting_esp_in())]

    def closing(self) -> list[Operation]:
        """For its end: nothing passes any more, in either direction, and the policies that see to it stay."""
        self._current = None
        operations: list[Operation] = [self._set_outward()]
        operations += [DeleteState(state) for state in self.states]
        self._receiving.clear()
        self._sent.clear()
        self._keys = {}
        return operations

    def control(self, effect: Any, now: float) -> list[Operation]:
        """One effect of the core on this group."""
        match effect:
            case InstallEpoch():
                self._keys[effect.epoch] = effect.key
                return self._settle(now)
            case DropEpoch():
                self._keys.pop(effect.epoch, None)
                return [*self._settle(now), *self._drop_sent(effect.epoch)]
            case SetRoster():
                self.senders = KernelSenders(self.destination, effect)
                return self._settle(now)
            case SwitchSending():
                return self._switch(_Place(effect.epoch, effect.sender_id), now)
            case PauseSending():
                self.paused = True
                return [self._set_outward()]
            case ResumeSending():
                self.paused = False
                return [self._set_outward()]
            case _:
                raise TypeError(effect)

    def move(self, address: str) -> None:
        """States that send from now on do so from there; under another address the core switches to another one."""
        self._own_address = parse_address(address)

    def renewing(self, now: float) -> list[Operation]:
        """To be carried out each `renew_each`: every state lives on for its time, and who flushes a host's policies
        flushes ours, which are put back."""
        operations: list[Operation] = [SetPolicy(policy) for policy in self._policies.all(self._sends_under())]
        for placed, lives_for in (
            *((placed, RECEIVING_LIVES_FOR) for placed in self._receiving.values()),
            *((placed, self._sending_lives_for) for placed in self._sent.values()),
        ):
            longer = int(now - placed.added_at) + lives_for
            operations.append(RenewState(replace(placed.state, lives_for=longer)))
        return operations

    @property
    def renew_each(self) -> float:
        """Seconds."""
        return min(RENEW_EACH, self._sending_lives_for / 3)

    def expired(self, states: Iterable[KernelState], now: float) -> tuple[list[Operation], bool]:
        """The kernel has given up these, since the MSM slept too long: what to do, and whether the one that sends is
        among them. That one never comes back, since its sequence numbers would."""
        lost, operations, sending_lost = {state.spi for state in states}, list[Operation](), False
        for place, placed in list(self._sent.items()):
            if placed.state.spi in lost:
                del self._sent[place]
                if place == self._current:
                    self._current, sending_lost = None, True
                    operations.append(self._set_outward())
        for place, placed in list(self._receiving.items()):
            if placed.state.spi in lost:
                again = replace(placed.state, lives_for=RECEIVING_LIVES_FOR)
                self._receiving[place] = _Placed(again, now)
                operations.append(AddState(again))
        return operations, sending_lost

    # ---- states

    def _settle(self, now: float) -> list[Operation]:
        """From the states that receive to those that should."""
        operations: list[Operation] = []
        for place, placed in list(self._receiving.items()):
            if place.epoch not in self._keys or self.senders.address_of(place.sender_id) != placed.state.source:
                del self._receiving[place]
                operations.append(DeleteState(placed.state))
        for epoch in self._keys:
            for sender_id, address in self.senders:
                place = _Place(epoch, sender_id)
                if place not in self._receiving and place not in self._switched:  # those were this host's own
                    state = self._state(place, address, self.reqids.receiving)
                    self._receiving[place] = _Placed(state, now)
                    operations.append(AddState(state))
        return operations

    def _switch(self, place: _Place, now: float) -> list[Operation]:
        if place in self._switched:
            raise ValueError("an outbound association is installed once, never again")
        state = self._state(place, self._own_address, self.reqids.sending)
        self._switched.add(place)
        self._sent[place] = _Placed(state, now)
        self._current, self.paused = place, False
        return [AddState(state), self._set_outward()]

    def _drop_sent(self, epoch: int) -> list[Operation]:
        """States that sent in an epoch; packets that were on their way have left long ago."""
        operations: list[Operation] = []
        if self._current is not None and self._current.epoch == epoch:
            self._current = None
            operations.append(self._set_outward())
        for place in [place for place in self._sent if place.epoch == epoch]:
            operations.append(DeleteState(self._sent.pop(place).state))
        return operations

    def _state(self, place: _Place, source: Address, reqid: int) -> KernelState:
        sends, group_id, key = reqid == self.reqids.sending, self.group.group_id, self._keys[place.epoch]
        return KernelState(
            source=source,
            destination=self.destination,
            key=derive_traffic_key(key, self._domain, group_id, place.epoch, self._suite, place.sender_id),
            reqid=reqid,
            replay_window=0 if sends else self._window,
            in_udp=self.in_udp,
            lives_for=self._sending_lives_for if sends else RECEIVING_LIVES_FOR,
            warn_after=NEARLY_EXHAUSTED_AT if sends else None,
        )

    def _sends_under(self) -> int:
        """The SPI; 0 where nothing may be sent."""
        state = self.sending
        return 0 if state is None or self.paused else state.spi

    def _set_outward(self) -> SetPolicy:
        return SetPolicy(self._policies.outward(self._sends_under()))


def check_group(group: GroupDescription) -> None:
    """Raises `Refused("driver")` where the kernel's IPsec can't carry the group."""
    policy = group.policy
    way_out = 'Choose driver = "relay" or "tun" on this host'
    if policy.source_authentication not in ("", "none"):
        sentence = (
            f"the kernel's IPsec checks no source authentication, and this group has {policy.source_authentication}"
        )
        raise Refused("driver", "xfrm.source-authentication", f"{sentence}. {way_out}.")
    if scheme_named(policy.gkm).subgroups:
        raise Refused(
            "driver", "xfrm.subgroups", f"{policy.gkm} has relaying agents, which the kernel's IPsec is not. {way_out}."
        )
    if policy.replay_window > LARGEST_WINDOW:
        sentence = f"the kernel's replay window is {LARGEST_WINDOW} packets at most, and this group has"
        raise Refused("driver", "xfrm.replay-window", f"{sentence} {policy.replay_window}. {way_out}.")
