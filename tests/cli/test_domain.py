"""`mcsa up` and a conference by hand, as the README tells it."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcsa.laboratory.kind import kind
from tests.cli.test_commands import mcsa
from tests.judges import lacking

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.timeout(150)
def test_a_conference_by_hand(tmp_path: Path) -> None:
    if kind().name != "namespaces":
        lacking(f"network namespaces: {kind().reason}")
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONUNBUFFERED": "1"}
    up = subprocess.Popen(
        [sys.executable, "-m", "mcsa.cli", "up"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        _converse(tmp_path, up)
    finally:
        if up.poll() is None:
            up.send_signal(signal.SIGTERM)
        said, _ = up.communicate(timeout=20)
    assert up.returncode == 0, said
    assert not (tmp_path / "state" / "mcsa" / "running.json").exists()
    assert not list((tmp_path / "state" / "mcsa" / "laboratories").glob("*"))


def _converse(folder: Path, up: subprocess.Popen[str]) -> None:
    domain = folder / "state" / "mcsa" / "domain"
    keys = {name: ["--user", str(domain / f"user-{name}.pem")] for name in ("alice", "bob")}
    deadline = time.monotonic() + 30
    while mcsa("status", folder=folder).stdout.count("running") < 8:
        assert up.poll() is None and time.monotonic() < deadline
    second = mcsa("up", folder=folder)
    assert second.returncode == 1 and "runs already" in second.stderr

    start = ["conference", "start", "Budget", "-a", "bob", "--host", "alpha", *keys["alice"]]
    for unknown in (["--gkm", "rot13"], ["--ckgds", "rot13"]):
        refused = mcsa(*start, *unknown, folder=folder)
        assert refused.returncode == 1 and "rot13" in refused.stderr
    started = mcsa(*start, "--gkm", "kd", folder=folder)
    assert started.returncode == 0, started.stderr
    while "Budget" not in mcsa("sessions", "--host", "beta", folder=folder).stdout:
        assert time.monotonic() < deadline
    watched = mcsa("sessions", "--watch", "--for", "0.5", "--json", "--host", "beta", folder=folder)
    (seen,) = [json.loads(line) for line in watched.stdout.splitlines()]
    assert (seen["event"], seen["session"]["title"], seen["session"]["verified"]) == ("new", "Budget", True)
    joined = mcsa("conference", "join", "Budget", "--host", "beta", *keys["bob"], folder=folder)
    assert joined.returncode == 0, joined.stderr

    listen = ["conference", "listen", "Budget", "--host", "alpha", "--count", "1", *keys["alice"]]
    alice = subprocess.Popen(
        [sys.executable, "-m", "mcsa.cli", *listen],
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(2.0)  # it says nothing before it hears something

    groups = mcsa("groups", "--host", "beta", folder=folder)
    assert groups.returncode == 0, groups.stderr
    row, more = (line for line in groups.stdout.splitlines() if line.startswith("control"))
    assert "member" in row and ":7000" in row
    assert more.startswith("control: udp, payloads of up to 1430 bytes, ") and "dropped: " in more

    # the README's example joins, says hello, and listens
    example = folder / "example.py"
    example.write_text(_example())
    environment = {
        **os.environ,
        "MCSA_CSM_SOCKET": "",
        "XDG_STATE_HOME": str(folder / "state"),
        "PYTHONUNBUFFERED": "1",
    }
    call = f"asyncio.run(example.main('beta', {keys['bob'][1]!r}, 'Budget'))"
    listener = subprocess.Popen(
        [sys.executable, "-c", f"import asyncio, sys; sys.path.insert(0, {str(folder)!r}); import example; {call}"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert listener.stdout is not None
    assert alice.communicate(timeout=20)[0] == "bob: hello from beta\n"
    assert (
        mcsa("conference", "say", "Budget", "hello", "--host", "alpha", *keys["alice"], folder=folder).returncode == 0
    )
    assert listener.stdout.readline().endswith("/user/alice: hello\n")

    listed = mcsa("conference", "list", "--host", "alpha", folder=folder)
    assert "active" in listed.stdout
    denied = mcsa("conference", "eject", "Budget", "alice", "--host", "beta", *keys["bob"], folder=folder)
    assert denied.returncode == 1 and "coordinator-only-eject" in denied.stderr
    ejected = mcsa("conference", "eject", "Budget", "bob", "--host", "alpha", *keys["alice"], folder=folder)
    assert "bob is out" in ejected.stdout
    assert listener.wait(20) == 0  # the conversation has ended for bob
    left = mcsa("conference", "leave", "Budget", "--host", "alpha", *keys["alice"], folder=folder)
    record = left.stdout.removeprefix("record: ").strip()
    verified = mcsa("record", "verify", record, "--anchors", str(domain / "anchors.pem"), folder=folder)
    assert verified.returncode == 0, verified.stderr


def _example() -> str:
    found = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_readmes_example_has_at_most_fifteen_lines():
    example = _example()
    ast.parse(example)
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
