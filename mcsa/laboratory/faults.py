"""What goes wrong on the laboratory's network, on purpose: nftables rules on the bridge and in the hosts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

from mcsa.errors import Refused
from mcsa.laboratory.plan import LaboratoryPlan
from mcsa.laboratory.programs import CODE, program, run

if TYPE_CHECKING:
    from mcsa.laboratory.namespaces import Host

_TABLE = "mcsa_faults"


class Faults:
    """Drops packets until `clear`. Each method adds to what is dropped already.

    Needs nft; `Refused` with the sentence that says so where it is missing, and on loopback, where nothing may be
    dropped.
    """

    def __init__(self, plan: LaboratoryPlan) -> None:
        self._plan = plan
        self._bridge: list[str] = []
        self._hosts: dict[str, list[str]] = {}

    def drop_udp_port(self, port: int) -> None:
        """The bridge forwards no UDP to this port: 9875 for SAP."""
        self._on_bridge(f"udp dport {int(port)} drop")

    def drop_group(self, group: str) -> None:
        """The bridge forwards nothing to this multicast address (or any other)."""
        address = ip_address(group)
        self._on_bridge(f"{'ip' if address.version == 4 else 'ip6'} daddr {address} drop")

    def cut_off(self, host: Host) -> None:
        """The bridge forwards nothing from or to this host."""
        self._on_bridge(f'iifname "{host.name}" drop', f'oifname "{host.name}" drop')

    def cut_in_two(self, half: Collection[Host]) -> None:
        """The bridge forwards nothing between these hosts and all others; on both sides it goes on."""
        names = ", ".join(f'"{host.name}"' for host in half)
        self._on_bridge(f"iifname {{ {names} }} oifname != {{ {names} }} drop")
        self._on_bridge(f"iifname != {{ {names} }} oifname {{ {names} }} drop")

    def lose(self, host: Host, percent: int, *, only_udp: bool = False) -> None:
        """This host loses so many of a hundred arriving packets, at random; TCP too, unless `only_udp`.

        A packet here is what the kernel handles as one: with segmentation offload dozens of datagrams.
        """
        if not 0 <= percent <= 100:
            raise ValueError("a percentage is 0 to 100")
        udp = "meta l4proto udp " if only_udp else ""
        chance = f"numgen random mod 100 < {int(percent)} " if percent < 100 else ""  # nft refuses "< 100"
        namespace = host.plan.namespace
        rules = self._hosts.setdefault(namespace, [])
        rules.append(f'iifname "{host.interface}" {udp}{chance}drop')
        self._install(namespace, "inet", "input", rules)

    def clear(self) -> None:
        """The network is whole again. May be called at any time."""
        for namespace in self._hosts:
            self._install(namespace, "inet", "input", ())
        if self._bridge:
            self._install(self._plan.bridge_namespace, "bridge", "forward", ())
        self._hosts.clear()
        self._bridge.clear()

    def _on_bridge(self, *rules: str) -> None:
        self._bridge.extend(rules)
        self._install(self._plan.bridge_namespace, "bridge", "forward", self._bridge)

    def _install(self, namespace: str, family: str, hook: str, rules: Sequence[str]) -> None:
        if not namespace:
            raise Refused(CODE, "loopback", "On loopback addresses no packets can be dropped: it takes namespaces.")
        run(["ip", "netns", "exec", namespace, program("nft"), "-f", "-"], input=_ruleset(family, hook, rules))


def _ruleset(family: str, hook: str, rules: Sequence[str]) -> str:
    """Replaces our table in one transaction; nft wants each statement on a line of its own."""
    table = f"{family} {_TABLE}"
    head = [f"table {table}", f"delete table {table}"]
    if not rules:
        return "\n".join((*head, ""))
    chain = [f"chain {hook} {{", f"type filter hook {hook} priority 0; policy accept;", *rules, "}"]
    return "\n".join((*head, f"table {table} {{", *chain, "}", ""))
