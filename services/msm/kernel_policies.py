"""The policies of one group in the kernel's IPsec: what may pass, and in what. Pure.

    in   UDP to the group             needs ESP, by a state of this group that receives       demand
    in   UDP to the group, port 4500  passes as it is, where ESP is in UDP: it is the ESP     first of the two
    out  UDP to the group             needs ESP, by the one state that sends; or is blocked
    out  UDP to the update port       is blocked: there members believe the Authorizer speaks

In the control group, which is the CSM's, the first and the third are blocked for everybody; the MSM's own socket has
policies of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from mcsa.updates import PORT as UPDATE_PORT
from mcsa.xfrm.layout import Address, Selector
from mcsa.xfrm.policy import KernelPolicy, Template
from mcsa.xfrm.state import ESP_PORT

PRIORITY = 100  # of policies that look at ports; the lower number goes first, and strongSwan's begin above 100,000


class Reqids(NamedTuple):
    """What ties states to policies, two numbers that no other group of this host has."""

    receiving: int
    sending: int


@dataclass(frozen=True, slots=True)
class GroupPolicies:
    """See the module. `spi` is that of the state that sends now; 0 blocks."""

    destination: Address
    reqids: Reqids
    in_udp: bool
    is_control: bool

    def all(self, spi: int) -> list[KernelPolicy]:
        """Those of the host, for all its sockets; what goes out is decided before what comes in."""
        everything, of_receiving = Selector(self.destination), Template(self.reqids.receiving)
        to_updates = Selector(self.destination, destination_port=UPDATE_PORT)
        policies = [
            self.outward(spi),
            KernelPolicy("in", everything, PRIORITY + 1, of_receiving, blocks=self.is_control),
            KernelPolicy("out", to_updates, PRIORITY, Template(self.reqids.sending), blocks=True),
        ]
        return [*policies, self.letting_esp_in()] if self.in_udp else policies

    def outward(self, spi: int) -> KernelPolicy:
        """What applications send to the group."""
        sealing = self._sealing(spi)
        return replace(sealing, blocks=True) if self.is_control else sealing

    def letting_esp_in(self) -> KernelPolicy:
        """The one without which no ESP in UDP would come to the socket that hands it to the kernel's IPsec."""
        outer = Selector(self.destination, destination_port=ESP_PORT)
        return KernelPolicy("in", outer, PRIORITY, Template(self.reqids.receiving, may_be_left_out=True))

    def of_socket(self, spi: int) -> list[KernelPolicy]:
        """Those that the MSM's own socket needs, where the host's are not for it; none in a group of media."""
        if not self.is_control:
            return []
        return [
            KernelPolicy("in", Selector(self.destination), 0, Template(self.reqids.receiving)),
            replace(self._sealing(spi), priority=0),
        ]

    def _sealing(self, spi: int) -> KernelPolicy:
        template = Template(self.reqids.sending, spi)
        return KernelPolicy("out", Selector(self.destination), PRIORITY + 1, template, blocks=spi == 0)
