"""The laboratory itself: hosts in network namespaces on a bridge, or, where that is refused, on loopback addresses."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from mcsa.errors import Refused
from mcsa.laboratory import leftovers
from mcsa.laboratory.faults import Faults
from mcsa.laboratory.kind import inside_user_namespace, kind
from mcsa.laboratory.plan import BRIDGE, HostPlan, KindName, LaboratoryPlan, plan
from mcsa.laboratory.programs import CODE, NAMESPACES, program, run

DEMO_HOSTS = ("alpha", "beta", "gamma", "mallory", "infrastructure")
DEMO_REFLECTING = ("infrastructure",)

NOT_SHOWN_ON_LOOPBACK = (
    "IGMP: on loopback nobody reports a membership, no querier asks and no bridge snoops.",
    "Separate hosts: all share one network, so that any process of this machine can listen and send.",
    "The network as a witness: a sender's own datagrams come back whether or not a network carried them.",
    "The wiretap: there is no wire between the hosts to listen on.",
    "Loss, a network that drops announcements or a group, a host that is cut off: loopback loses nothing.",
)

# A new querier floods multicast for one query response interval, 10 s by default: until then every member has had
# the chance to report. Here members have 0.2 s (times are in hundredths of a second), and that is set before the bridge
# becomes querier.
_BRIDGE = (
    "mcast_snooping 1 mcast_igmp_version 3 mcast_mld_version 2 "
    "mcast_startup_query_interval 100 mcast_query_response_interval 20"
)
# Link-local addresses are there at once: without one no bridge asks and no host reports by MLD (RFC 3810, section 5).
_IPV6 = {"ipv6/conf/default/accept_dad": 0, "ipv6/conf/default/dad_transmits": 0, "ipv6/conf/default/accept_ra": 0}
_STOPS_FOR = 3.0  # seconds that a process is given after SIGTERM
_REPORTS_WITHIN = 10.0  # seconds; a report takes milliseconds, and is repeated after one second at most


class Host:
    """One host of a laboratory, or its bridge: where programs run and sockets are opened."""

    def __init__(self, laboratory: str, host: HostPlan, processes: list[subprocess.Popen[Any]]) -> None:
        self.plan = host
        self.name = host.name
        self.address = host.address
        self.address6 = host.address6
        self.interface = host.interface
        self._laboratory = laboratory
        self._processes = processes

    def address_for(self, group: str) -> str:
        """Its address of the group's family."""
        return self.address6 if ":" in group else self.address

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` on this host."""
        if not self.plan.namespace:
            return list(argv)
        return [program("ip"), "netns", "exec", self.plan.namespace, *argv]

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """`subprocess.Popen` on this host, in a process group of its own: Ctrl-C is for who started the laboratory.
        `Laboratory.remove` stops what is left of it, also after a crash."""
        options.setdefault("process_group", None if options.get("start_new_session") else 0)
        options["env"] = {**(options.get("env") or os.environ), leftovers.MARK: self._laboratory}
        process = subprocess.Popen(self.command(argv), **options)
        self._processes.append(process)
        return process

    def run(self, argv: Sequence[str], timeout: float = 30.0) -> str:
        """The output of a program on this host; `subprocess.CalledProcessError` where it fails."""
        argv = self.command(argv)
        return subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True, timeout=timeout).stdout

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The current thread is on this host: sockets opened meanwhile stay there. Don't await inside."""
        if not self.plan.namespace:
            yield
            return
        with Path("/proc/thread-self/ns/net").open() as back, (NAMESPACES / self.plan.namespace).open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(back.fileno())


class Laboratory:
    """Makes the hosts on entry and removes them, with all that runs on them, on exit.

    Every host has one interface (`Host.interface`) with an address of each family on a common bridge, which snoops
    IGMPv3 and MLDv2 and is the querier of both. `reflecting` hosts get back what they send: with IP_MULTICAST_LOOP off
    they hear their own datagrams only if the network carried them. Names carry this process's id; the machine's own
    network is not touched. What earlier, killed runs left is removed first.

    The kind is the best that `kind()` finds. On loopback `not_shown` says what the laboratory then lacks. An
    ordinary user calls `reexec_in_user_namespace` before; `Refused` otherwise.
    """

    def __init__(
        self,
        hosts: Sequence[str] = DEMO_HOSTS,
        reflecting: Collection[str] = (),
        kind_name: KindName | None = None,
    ) -> None:
        self.plan: LaboratoryPlan = plan(hosts, os.getpid(), os.urandom(2).hex(), kind_name or kind().name, reflecting)
        self.name = self.plan.name
        self.kind = self.plan.kind
        self.not_shown = NOT_SHOWN_ON_LOOPBACK if self.kind == "loopback" else ()
        self.faults = Faults(self.plan)
        self._processes: list[subprocess.Popen[Any]] = []
        self.hosts = {host.name: self._host(host) for host in self.plan.hosts}
        self.bridge = self._host(HostPlan("bridge", "", BRIDGE, self.plan.bridge_namespace))

    def _host(self, host: HostPlan) -> Host:
        return Host(self.name, host, self._processes)

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def create(self) -> None:
        """Makes it all; removes what it made where something fails."""
        if self.kind == "user-namespaces" and not inside_user_namespace():
            raise Refused(CODE, "user namespace", "Call reexec_in_user_namespace() before, or run this as root.")
        leftovers.remove_leftovers()
        leftovers.note(self.plan)
        try:
            self._create()
        except BaseException:
            self.remove()
            raise

    def _create(self) -> None:
        if self.kind == "loopback":
            return
        for namespace in self.plan.namespaces:
            run(["ip", "netns", "add", namespace])
            set_kernel(namespace, _IPV6)
        run_batch(self.plan.bridge_namespace, _bridge_commands(self.plan))
        for host in self.plan.hosts:
            run_batch(host.namespace, _host_commands(host, self.plan))
            if host.reflects:
                accept_own(host.namespace, host.interface)

    def await_membership(self, host: Host, group: str, source: str = "") -> None:
        """Returns when the bridge has seen the host's IGMP or MLD report: from then on it forwards the group there.

        What is sent in the moment between a join and its report is lost, as on any network. `source`: of a
        source-specific join. TimeoutError after 10 s.
        """
        if self.kind == "loopback":
            return
        deadline = time.monotonic() + _REPORTS_WITHIN
        while not self._forwards(host, group, source):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no report of {host.name} for {group} {source}reached the bridge")
            time.sleep(0.005)

    def _forwards(self, host: Host, group: str, source: str) -> bool:
        known = json.loads(self.bridge.run(["bridge", "-j", "mdb", "show"]))
        entries = [entry for bridge in known for entry in bridge["mdb"]]
        return any((e["port"], e["grp"], e.get("src", "")) == (host.name, group, source) for e in entries)

    def remove(self) -> None:
        """Stops what runs on the hosts and removes them. May be called twice, or after a failed `create`."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOPS_FOR)
                continue
            process.kill()
            process.wait()
        self._processes.clear()
        leftovers.remove(self.name, self.plan.namespaces)

    def __enter__(self) -> Self:
        self.create()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _bridge_commands(laboratory: LaboratoryPlan) -> Iterator[str]:
    yield "link set lo up"
    yield f"link add {BRIDGE} type bridge {_BRIDGE}"
    yield f"link set {BRIDGE} type bridge mcast_querier 1"
    yield f"link set {BRIDGE} up"
    for host in laboratory.hosts:
        yield f"link add {host.name} type veth peer name {host.interface} netns {host.namespace}"
        yield f"link set {host.name} master {BRIDGE} up"
        if host.reflects:
            yield f"link set {host.name} type bridge_slave hairpin on"


def _host_commands(host: HostPlan, laboratory: LaboratoryPlan) -> Iterator[str]:
    yield "link set lo up"
    yield f"address add {host.address}/{laboratory.network.prefixlen} dev {host.interface}"
    yield f"address add {host.address6}/{laboratory.network6.prefixlen} dev {host.interface} nodad"
    yield f"link set {host.interface} up"
    yield f"route add 224.0.0.0/4 dev {host.interface}"


def accept_own(namespace: str, interface: str) -> None:
    """A packet that arrives with the host's own address as source is a martian unless this is set."""
    # The stricter of "all" and the interface's own value counts for rp_filter.
    names = ("all/rp_filter", f"{interface}/rp_filter")
    set_kernel(namespace, {f"ipv4/conf/{name}": 0 for name in names} | {f"ipv4/conf/{interface}/accept_local": 1})


def set_kernel(namespace: str, settings: Mapping[str, int]) -> None:
    """Sets what /proc/sys/net of a namespace has."""
    script = "; ".join(f"echo {value} > /proc/sys/net/{path}" for path, value in settings.items())
    run(["ip", "netns", "exec", namespace, "sh", "-e", "-c", script])


def run_batch(namespace: str, commands: Iterable[str]) -> None:
    """Runs `ip` commands in a namespace."""
    run(["ip", "-n", namespace, "-batch", "-"], input="\n".join(commands) + "\n")


_libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12
_CLONE_NEWNET = 0x40000000  # linux/sched.h


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")
