"""`mcsa up`, `mcsa status`, `mcsa down`: a whole domain on this machine, in the foreground of one terminal."""

from __future__ import annotations

import json as json_text
import os
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer

from mcsa.cli.running import noted, running, started
from mcsa.cli.schemes import Driver
from mcsa.cli.showing import JsonOption, complaints, out, show_json, show_pairs, show_table
from mcsa.cli.usage import check_domain, checked
from mcsa.domain.files import DomainFiles
from mcsa.domain.processes import INFRASTRUCTURE, DomainProcesses
from mcsa.errors import Refused
from mcsa.laboratory.kind import kind, reexec_in_user_namespace
from mcsa.laboratory.leftovers import remove_leftovers
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.laboratory.plan import check_names
from mcsa.sdk.places import running_domain
from mcsa.shell.process import interrupt_at_endings
from mcsa.shell.settings import state_home

USERS = ("alice", "bob", "carol")


def up(
    hosts: Annotated[
        str, typer.Option(help="Names of the hosts, with commas.", callback=checked(check_hosts))
    ] = "alpha,beta,gamma",
    folder: Annotated[Path | None, typer.Option(help="Keys, configurations, state and logs; kept.")] = None,
    domain: Annotated[
        str, typer.Option(help="The part of names that the authority speaks for.", callback=checked(check_domain))
    ] = "mcsa.example",
    ipv6: Annotated[bool, typer.Option("--ipv6", help="Groups of IPv6.")] = False,
    driver: Driver = "relay",
) -> None:
    """Run a domain in the foreground: broker, Authorizer, SD, an MSM and a CSM on each host. Ctrl-C ends it."""
    from mcsa.domain.drivers import check_driver  # it needs the services, which other commands do without

    reexec_in_user_namespace()
    check_driver(driver)
    found = running()
    if found is not None:
        raise Refused(
            "running", "one-domain", f"a domain runs already (process {found['process']}): `mcsa down` ends it"
        )
    names = host_names(hosts)
    where = folder or state_home() / "domain"
    files = DomainFiles(where, domain)
    users = {name: files.credentials_path("user", name) for name in USERS}
    laboratory = Laboratory([*names, INFRASTRUCTURE], (INFRASTRUCTURE,))
    processes = DomainProcesses(
        laboratory, files, names, sd_options={"interval_floor": 2.0}, msm_options={"driver": driver}, ipv6=ipv6
    )
    out.print(f"hosts are {kind().name.replace('-', ' ')}: {kind().reason}", markup=False)
    for line in laboratory.not_shown:
        out.print(f"not shown here: {line}", markup=False)
    interrupt_at_endings()
    with ExitStack() as exits:
        try:
            with out.status("starting"):
                exits.enter_context(laboratory)
                exits.enter_context(processes)
        except KeyboardInterrupt:
            complaints.print("interrupted")
            raise
        try:
            _note(files, names, processes)
            with suppress(KeyboardInterrupt):
                _tell_what_next(names, users, where)
                _watch(processes)
        finally:
            running_domain().unlink(missing_ok=True)
            out.print("stopping", markup=False)


def host_names(text: str) -> list[str]:
    """Those of `--hosts`."""
    return [name.strip() for name in text.split(",") if name.strip()]


def check_hosts(text: str) -> None:
    """`Refused("laboratory")` where they can't be hosts' names; one host more is for broker, Authorizer and SD."""
    if not host_names(text):
        raise Refused("laboratory", "hosts", "no host is named: give names with commas, as alpha,beta")
    check_names([*host_names(text), INFRASTRUCTURE])


def _note(files: DomainFiles, names: list[str], processes: DomainProcesses) -> None:
    note = {
        "process": os.getpid(),
        "started": started(os.getpid()),
        "folder": str(files.folder),
        "broker": processes.broker.url,
        "kind": processes.laboratory.kind,
        "hosts": {name: _where(processes.laboratory[name]) for name in names},
        "sockets": {name: str(files.sockets(name) / "csm.sock") for name in names},
        "services": {
            "broker": processes.broker.process_id,
            **{name: service.pid for name, service in processes.services.items()},
        },
    }
    path = running_domain()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(json_text.dumps(note, indent=1))


def _where(host: Host) -> dict[str, str]:
    return {"address": host.address, "address6": host.address6, "namespace": host.plan.namespace}


def _tell_what_next(names: list[str], users: dict[str, Path], folder: Path) -> None:
    first, *others = names
    alice, bob = users["alice"], users["bob"]
    second = others[0] if others else first
    out.print(f"\nrunning; files and logs are in {folder}. In another terminal:\n", markup=False)
    for line in (
        f"mcsa conference start Budget -a bob -a carol --host {first} --user {alice}",
        f"mcsa sessions --host {second}",
        f"mcsa conference join Budget --host {second} --user {bob}",
        f"mcsa conference call Budget --host {first} --user {alice}",
        f"mcsa conference listen Budget --host {second} --user {bob}",
        f"mcsa conference say Budget 'hello' --host {first} --user {alice}",
        f"mcsa conference leave Budget --host {first} --user {alice}",
    ):
        out.print(f"  {line}", markup=False)
    out.print("\nCtrl-C ends it.", markup=False)


def _watch(processes: DomainProcesses) -> None:
    """Until the end is asked for; a service or a broker that ends by itself is told, and ends all."""
    while True:
        time.sleep(0.5)
        if (code := processes.broker.exit_code) is not None:
            log = processes.broker.directory / "nats-server.log"
            raise Refused("service", "broker", f"the broker has ended with code {code}; see {log}")
        for service in processes.services.values():
            if service.process is not None and service.process.poll() is not None:
                sentence = f"{service.name} has ended with code {service.process.returncode}; see {service.log}"
                raise Refused("service", service.name, sentence)


def status(json: JsonOption = False) -> None:
    """Show what runs, and what a killed one left."""
    found = running()
    note = noted()
    if json:
        show_json({"running": found is not None, "note": note})
        return
    if note is None:
        out.print("no domain of `mcsa up` runs here; `mcsa up` starts one", markup=False)
        return
    if found is None:
        out.print(f"process {note['process']} was killed; `mcsa down` cleans up after it", markup=False)
    rows = [(name, process, "running" if started(process) else "gone") for name, process in note["services"].items()]
    show_table(("service", "process", "state"), rows, "no service")
    hosts = [(name, *where.values()) for name, where in note.get("hosts", {}).items()]
    columns = ("host", "address", "IPv6 address", "network namespace")
    show_table(columns, hosts, "no host", unbroken=columns)
    show_pairs(
        (f"CSM's socket of {host}", path if Path(path).exists() else f"{path} is missing")
        for host, path in note["sockets"].items()
    )
    if found is None:
        raise typer.Exit(1)


def down() -> None:
    """End a running domain, and remove what a killed one left: processes, namespaces, notes."""
    found = running()
    if found is not None:
        os.kill(found["process"], signal.SIGTERM)
        deadline = time.monotonic() + 15
        while running() is not None and time.monotonic() < deadline:
            time.sleep(0.1)
        if running() is not None:
            raise Refused("running", "stop", f"process {found['process']} doesn't end; kill -9 it and run this again")
    removed = remove_leftovers()
    running_domain().unlink(missing_ok=True)
    told = ["ended the running domain"] if found is not None else []
    told += [f"removed what {name} left" for name in removed]
    out.print("\n".join(told) or "nothing to end, nothing left", markup=False)
