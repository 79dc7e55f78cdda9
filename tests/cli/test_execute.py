"""`mcsa exec`: how a program comes to a host, whatever kind of host it is."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from mcsa.cli.execute import entering
from mcsa.errors import Refused
from tests.cli.test_commands import mcsa
from tests.judges import lacking

NOBODY = 65534


def noted(kind: str, namespace: str, process: int = 1) -> dict[str, Any]:
    """As `mcsa up` notes a domain."""
    hosts = {"beta": {"address": "127.64.1.2", "address6": "", "namespace": namespace}}
    return {"kind": kind, "hosts": hosts, "services": {"msm-beta": process}}


def test_on_loopback_there_is_nothing_to_enter() -> None:
    with pytest.raises(Refused, match="nothing to enter: run the program as it is, from 127"):
        entering(noted("loopback", ""), "beta")


def test_a_host_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(Refused, match="there is no host 'gamma'; there are: beta"):
        entering(noted("namespaces", "mcsa-1-00-beta"), "gamma")


def test_where_nothing_runs_nothing_can_be_entered(tmp_path: Path) -> None:
    done = mcsa("exec", "beta", "--", "true", folder=tmp_path)
    assert done.returncode == 1 and "`mcsa up` starts one" in done.stderr


def test_an_ordinary_user_enters_a_host_in_a_user_namespace() -> None:
    as_nobody = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    prefix = as_nobody if os.geteuid() == 0 else []
    command = [*prefix, "unshare", "--user", "--map-root-user", "--net", "sleep", "60"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd="/") as host:
        try:
            network = Path(f"/proc/{host.pid}/ns/net")
            own = os.readlink("/proc/self/ns/net")
            deadline = time.monotonic() + 10
            while host.poll() is None and network.readlink() == Path(own) and time.monotonic() < deadline:
                time.sleep(0.02)
            if host.poll() is not None:
                lacking(f"no user namespaces here: {host.stderr.read() if host.stderr else ''}")
            enter = entering(noted("user-namespaces", "mcsa-1-00-beta", host.pid), "beta")
            argv = [*prefix, *enter, "readlink", "/proc/self/ns/net"]
            there = subprocess.run(argv, capture_output=True, text=True, check=True, cwd="/").stdout.strip()
            assert there == os.readlink(network) != own
        finally:
            host.kill()
