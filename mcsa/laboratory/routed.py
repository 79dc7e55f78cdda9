"""A laboratory of two subnets with a multicast router between them: SMCRoute on the kernel's own multicast forwarding.

    hosts ── bridge ── eth0 [router] eth1 ── bridge ── hosts beyond

Both bridges snoop, and both are queriers. The router forwards the groups of a site, those of SAP included, whoever is
in them: a static router, as between two subnets of a site.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mcsa.errors import Refused
from mcsa.laboratory.namespaces import Host, Laboratory, run_batch, set_kernel
from mcsa.laboratory.plan import BRIDGE
from mcsa.laboratory.programs import CODE, program

ROUTER = "router"
NEAR, FAR = "eth0", "eth1"  # the router's interfaces
FORWARDED = ("239.0.0.0/8", "224.2.0.0/16", "232.0.0.0/8", "ff15::/16", "ff35::/16", "ff05::/16", "ff0e::/16")
_ROUTERS_NUMBER = 254  # its address in each subnet
_STARTS_WITHIN = 10.0  # seconds


class RoutedLaboratory(Laboratory):
    """`hosts` and, behind the router, `beyond`. `Refused` on loopback, and where smcrouted is missing."""

    def __init__(self, hosts: Sequence[str], beyond: Sequence[str], reflecting: Collection[str] = ()) -> None:
        super().__init__([*hosts, ROUTER], reflecting)
        self.beyond = Laboratory(beyond)
        self.router = self.hosts[ROUTER]
        self.hosts |= self.beyond.hosts
        self._folder = TemporaryDirectory(prefix=f"{self.name}-")

    def create(self) -> None:
        """See `Laboratory`."""
        if self.kind == "loopback":
            raise Refused(CODE, "loopback", "Two subnets with a router between them take network namespaces.")
        program("smcrouted")
        super().create()
        try:
            self.beyond.create()
            self._connect()
            self._start_router()
        except BaseException:
            self.remove()
            raise

    def _connect(self) -> None:
        far, router = self.beyond.plan, self.router.plan.namespace
        set_kernel(router, {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1})
        # A router's port is given all groups, whatever is known of who is in them.
        all_groups = f"link set {ROUTER} type bridge_slave mcast_router 2"
        run_batch(self.plan.bridge_namespace, [all_groups])
        link = f"link add {ROUTER} type veth peer name {FAR} netns {router}"
        run_batch(far.bridge_namespace, [link, f"link set {ROUTER} master {BRIDGE} up", all_groups])
        for interface, plan in ((NEAR, self.plan), (FAR, far)):
            gateways = [network[_ROUTERS_NUMBER] for network in (plan.network, plan.network6)]
            lengths = plan.network.prefixlen, plan.network6.prefixlen
            commands = [f"link set {interface} up"]
            for gateway, length in zip(gateways, lengths, strict=True):
                nodad = "nodad" if gateway.version == 6 else ""
                commands.append(f"address add {gateway}/{length} dev {interface} {nodad}")
            run_batch(router, commands)
            for host in plan.hosts:
                if host.name != ROUTER:
                    run_batch(host.namespace, [f"route add default via {gateway}" for gateway in gateways])

    def _start_router(self) -> None:
        folder = Path(self._folder.name)
        lines = [f"phyint {NEAR} enable", f"phyint {FAR} enable"]
        for network in FORWARDED:
            lines += [f"mroute from {NEAR} group {network} to {FAR}", f"mroute from {FAR} group {network} to {NEAR}"]
        configuration, log = folder / "smcroute.conf", folder / "log"
        configuration.write_text("\n".join((*lines, "")))
        places = ["-f", str(configuration), "-P", str(folder / "pid"), "-u", str(folder / "socket")]
        with log.open("wb") as written:
            argv = [program("smcrouted"), "-n", "-N", "-i", self.name, *places]
            self.router.popen(argv, stdout=written, stderr=written)
        deadline = time.monotonic() + _STARTS_WITHIN
        while not all(name in self.router.run(["cat", "/proc/net/ip_mr_vif"]) for name in (NEAR, FAR)):
            if time.monotonic() > deadline:
                raise Refused(CODE, "smcrouted", f"smcrouted doesn't take the router's interfaces: {log.read_text()}")
            time.sleep(0.02)

    def await_membership(self, host: Host, group: str, source: str = "") -> None:
        """See `Laboratory`; of hosts beyond the router likewise, at the bridge there."""
        if host.name in self.beyond.hosts:
            self.beyond.await_membership(host, group, source)
        else:
            super().await_membership(host, group, source)

    def forwarded(self) -> list[str]:
        """What the router's kernel says of each source and group that it has forwarded: lines of `ip mroute`."""
        shown = self.router.run(["ip", "mroute", "show"]) + self.router.run(["ip", "-6", "mroute", "show"])
        return shown.splitlines()

    def remove(self) -> None:
        """See `Laboratory`."""
        self.beyond.remove()
        super().remove()
        self._folder.cleanup()
