"""The processes of a domain on the hosts of a laboratory: broker, Authorizer, SD, and an MSM and a CSM on each host."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcsa.domain.files import AUTHORIZER_NAME, DomainFiles
from mcsa.errors import Refused
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.shell.broker_process import BrokerProcess
from mcsa.shell.nkeys import load_nkey
from mcsa.shell.stream import prepare_stream

READY_WITHIN = 60.0  # seconds, all together, of a machine that has much else to do
STOP_WITHIN = 5.0  # seconds between SIGTERM and SIGKILL
INFRASTRUCTURE = "infra"


@dataclass
class ServiceProcess:
    """One service of ours as a child process; what it logs is in `log`."""

    name: str
    module: str
    host: Host
    config: Path
    log: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        if self.process is None:
            raise ValueError(f"{self.name} was not started")
        return self.process.pid

    def start(self) -> None:
        """Starts it; `wait_ready` waits."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", self.module, "--config", str(self.config)]
        with self.log.open("wb") as log:
            self.process = self.host.popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **self.environment}
            )

    def wait_ready(self, until: float) -> None:
        """Returns once it serves; `Refused("service")` with the end of its log where it doesn't."""
        while '"ready"' not in self.written():
            if self.process is None or self.process.poll() is not None:
                tail = "\n".join(self.written().splitlines()[-5:])
                raise Refused("service", self.name, f"{self.name} did not start; {self.log} ends with:\n{tail}")
            if time.monotonic() > until:
                busy = f"its processor's load is {os.getloadavg()[0]:.0f}; ask for fewer hosts, or try again later"
                raise Refused("service", self.name, f"this machine starts nothing within {READY_WITHIN:g} s: {busy}")
            time.sleep(0.02)

    def written(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")

    def stop(self) -> int | None:
        """SIGTERM, then SIGKILL; the exit code."""
        if self.process is None:
            return None
        self.process.terminate()
        try:
            self.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def restart(self) -> None:
        """A new process; returns once it serves."""
        self.stop()
        self.start()
        self.wait_ready(time.monotonic() + READY_WITHIN)


class DomainProcesses:
    """Starts them all on entry, stops them on exit. `services` has them by name: "authorizer", "sd", "msm-alpha"."""

    def __init__(
        self,
        laboratory: Laboratory,
        files: DomainFiles,
        hosts: Sequence[str],
        *,
        services: Sequence[str] = ("authorizer", "sd", "msm", "csm"),
        modules: dict[str, str] | None = None,
        trace: Path | None = None,
        sd_options: dict[str, Any] | None = None,
        msm_options: dict[str, Any] | None = None,
        infrastructure: str = INFRASTRUCTURE,
        pool: str = "",
        ipv6: bool = False,
        networks: Mapping[str, Sequence[Mapping[str, str]]] | None = None,
    ) -> None:
        """`infrastructure`: the host of broker, Authorizer and SD. `pool`: addresses that the Authorizer gives; all of
        the laboratory's, where it is the only one there. `ipv6`: of the groups; the bus stays with IPv4. `networks`: by
        host, further ones, as configurations have them."""
        if ipv6 and laboratory.kind == "loopback":
            raise Refused("ipv6", "loopback", "On loopback addresses there is one IPv6 address: it takes namespaces.")
        self._ipv6 = ipv6
        self.laboratory = laboratory
        self.files = files
        self.host_names = list(hosts)
        self._kinds = services
        self._modules = modules or {}
        self._sd_options = sd_options or {}
        self._msm_options = msm_options or {}
        self._environment = {"MCSA_TRACE_DIR": str(trace)} if trace else {}
        self._networks = networks or {}
        self._infrastructure = laboratory[infrastructure]
        self._pool = pool or str(laboratory.plan.groups6 if ipv6 else laboratory.plan.groups)
        self.broker = BrokerProcess(
            files.folder / "broker",
            files.grants(self.host_names),
            host=self._infrastructure.address,
            prefix=self._infrastructure.command([]),
        )
        self.services: dict[str, ServiceProcess] = {}

    def start(self) -> None:
        """Everything; returns once all serve."""
        self.broker.start()
        files, bus, infrastructure = self.files, self.broker.url, self._infrastructure
        if "authorizer" in self._kinds:
            make_stream(infrastructure, bus, files)
        if "authorizer" in self._kinds:
            networks = self._networks_of(infrastructure)
            config = files.authorizer_config(bus, self._address(infrastructure), self._pool, networks=networks)
            self._add("authorizer", infrastructure, config)
        if "sd" in self._kinds:
            loop = not infrastructure.plan.reflects
            ipv6 = [{"groups": "ff00::/8", "address": infrastructure.address6}] if infrastructure.address6 else []
            networks = self._networks_of(infrastructure) or ipv6
            options = {"loop": loop, "networks": networks, **self._sd_options}
            self._add("sd", infrastructure, files.sd_config(bus, infrastructure.address, **options))
        for name in self.host_names:
            host = self.laboratory[name]
            if "msm" in self._kinds:
                own = {"address": self._address(host), "networks": self._networks_of(host)}
                options = {**own, **self._msm_options}
                self._add("msm", host, files.msm_config(name, bus, **options))
            if "csm" in self._kinds:
                self._add("csm", host, files.csm_config(name, bus))
        until = time.monotonic() + READY_WITHIN
        for service in self.services.values():
            service.wait_ready(until)

    def _address(self, host: Host) -> str:
        return host.address6 if self._ipv6 else host.address

    def _networks_of(self, host: Host) -> list[dict[str, str]]:
        return [dict(network) for network in self._networks.get(host.name, ())]

    def _add(self, kind: str, host: Host, config: Path) -> None:
        name = kind if host.name == self._infrastructure.name else f"{kind}-{host.name}"
        module = self._modules.get(name, f"services.{kind}")
        log = self.files.folder / "logs" / f"{name}.log"
        self.services[name] = ServiceProcess(name, module, host, config, log, self._environment)
        self.services[name].start()

    def stop(self) -> None:
        """Everything, the hosts' services before those they ask."""
        for service in reversed(self.services.values()):
            if service.process is not None:
                service.process.terminate()
        for service in self.services.values():
            service.stop()
        self.broker.stop()
        self.files.remove_sockets(self.host_names)

    def __enter__(self) -> DomainProcesses:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def make_stream(host: Host, bus: str, files: DomainFiles) -> None:
    """The place of the Authorizer's logs, made by the storekeeper, from a host that reaches the broker."""
    seed = load_nkey(files.storekeeper_nkey)

    def make() -> None:
        with host.inside():
            asyncio.run(prepare_stream([bus], seed, AUTHORIZER_NAME))

    with ThreadPoolExecutor(1) as thread:  # one of its own: this one may have an event loop
        thread.submit(make).result()
