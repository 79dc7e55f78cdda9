"""A laboratory whose hosts are in two networks: as a control network and a media network, each on an interface.

    bridge ── eth0 [hosts] eth1 ── bridge

Both bridges snoop, both are queriers, and nothing is between them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mcsa.errors import Refused
from mcsa.laboratory.namespaces import Host, Laboratory, accept_own, run_batch
from mcsa.laboratory.plan import BRIDGE
from mcsa.laboratory.programs import CODE

SECOND = "eth1"  # the hosts' second interface
WITNESS = "witness"  # a host that is in the second network only


class TwoNetworks(Laboratory):
    """`hosts` in the first network; those of them that are in `both` in the `second` one too, which is a laboratory of
    its own with nobody else in it. `Refused` on loopback."""

    def __init__(self, hosts: Sequence[str], both: Collection[str], reflecting: Collection[str] = ()) -> None:
        super().__init__(hosts, reflecting)
        self.both = [self.hosts[name] for name in both]
        self.second = Laboratory([WITNESS])

    def create(self) -> None:
        """See `Laboratory`."""
        if self.kind == "loopback":
            raise Refused(CODE, "loopback", "Hosts with two interfaces take network namespaces.")
        super().create()
        try:
            self.second.create()
            for host in self.both:
                self._connect(host)
        except BaseException:
            self.remove()
            raise

    def second_address(self, host: Host, *, ipv6: bool = False) -> str:
        """A host's own in the second network; the witness has the first number."""
        plan = self.second.plan
        return str((plan.network6 if ipv6 else plan.network)[2 + self.both.index(host)])

    def _forwards(self, host: Host, group: str, source: str) -> bool:
        """In either network."""
        return super()._forwards(host, group, source) or self.second._forwards(host, group, source)

    def _connect(self, host: Host) -> None:
        plan, bridge, own = self.second.plan, self.second.plan.bridge_namespace, host.plan.namespace
        hairpin = f"link set {host.name} type bridge_slave hairpin {'on' if host.plan.reflects else 'off'}"
        link = f"link add {host.name} type veth peer name {SECOND} netns {own}"
        run_batch(bridge, [link, f"link set {host.name} master {BRIDGE} up", hairpin])
        addresses = [
            f"address add {self.second_address(host)}/{plan.network.prefixlen} dev {SECOND}",
            f"address add {self.second_address(host, ipv6=True)}/{plan.network6.prefixlen} dev {SECOND} nodad",
        ]
        run_batch(own, [*addresses, f"link set {SECOND} up"])
        if host.plan.reflects:
            accept_own(own, SECOND)

    def remove(self) -> None:
        """See `Laboratory`."""
        super().remove()
        self.second.remove()
