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
    while mcsa("status", folder=folder).stdout.count("running") < 9:  # the broker, too
        assert up.poll() is None and time.monotonic() < deadline
    second = mcsa("up", folder=folder)
    assert second.returncode == 1 and "runs already" in second.stderr

    hosts = json.loads(mcsa("status", "--json", folder=folder).stdout)["note"]["hosts"]
    on_beta = mcsa("exec", "beta", "--", "ip", "-brief", "address", folder=folder)
    assert f"{hosts['beta']['address']}/" in on_beta.stdout and hosts["alpha"]["address"] not in on_beta.stdout
    assert mcsa("exec", "beta", "sh", "-c", "exit 7", folder=folder).returncode == 7
    assert "there are: alpha, beta, gamma" in mcsa("exec", "delta", "true", folder=folder).stderr

    start = ["conference", "start", "Budget", "-a", "bob", "--host", "alpha", *keys["alice"]]
    for unknown in (["--gkm", "rot13"], ["--ckgds", "rot13"]):
        refused = mcsa(*start, *unknown, folder=folder)
        assert refused.returncode == 2 and "rot13" in refused.stderr
    started = mcsa(*start, "--gkm", "kd", folder=folder)
    assert started.returncode == 0, started.stderr
    while "Budget" not in mcsa("sessions", "--host", "beta", folder=folder).stdout:
        assert time.monotonic() < deadline
    watched = mcsa("sessions", "--watch", "--for", "0.5", "--json", "--host", "beta", folder=folder)
    (seen,) = [json.loads(line) for line in watched.stdout.splitlines()]
    assert (seen["event"], seen["session"]["title"], seen["session"]["verified"]) == ("new", "Budget", True)
    joined = mcsa("conference", "join", "Budget", "--host", "beta", *keys["bob"], folder=folder)
    assert joined.returncode == 0, joined.stderr

    alice = _listen(folder, "--json", "--host", "alpha", *keys["alice"])
    time.sleep(2.0)  # it says nothing before it hears something

    groups = mcsa("groups", "--host", "beta", folder=folder)
    assert groups.returncode == 0, groups.stderr
    row, more = (line for line in groups.stdout.splitlines() if line.startswith("control"))
    assert "member" in row and ":7000" in row
    assert (
        more.startswith("control: udp, by eth0 as ")
        and "payloads of up to 1430 bytes, " in more
        and "dropped: " in more
    )

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
    assert alice.stdout is not None
    heard = json.loads(alice.stdout.readline())
    assert (heard["user"], heard["text"]) == ("spiffe://mcsa.example/user/bob", "hello from beta")
    alice.send_signal(signal.SIGINT)
    assert alice.wait(20) == 0  # what goes on until Ctrl-C is done then
    bob = _listen(folder, "--host", "beta", *keys["bob"])
    time.sleep(2.0)
    assert (
        mcsa("conference", "say", "Budget", "hello", "--host", "alpha", *keys["alice"], folder=folder).returncode == 0
    )
    assert listener.stdout.readline().endswith("/user/alice: hello\n")
    assert bob.stdout is not None and bob.stdout.readline() == "alice: hello\n"
    shown = mcsa("conference", "show", "Budget", "--host", "alpha", *keys["alice"], folder=folder, COLUMNS="80")
    (path,) = [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("record ")]
    assert Path(path).is_file()  # not folded

    listed = mcsa("conference", "list", "--host", "alpha", folder=folder)
    assert "active" in listed.stdout
    denied = mcsa("conference", "eject", "Budget", "alice", "--host", "beta", *keys["bob"], folder=folder)
    assert denied.returncode == 1 and "coordinator-only-eject" in denied.stderr
    ejected = mcsa("conference", "eject", "Budget", "bob", "--host", "alpha", *keys["alice"], folder=folder)
    assert "bob is out" in ejected.stdout
    assert listener.wait(20) == 0  # the conversation has ended for bob
    assert bob.wait(20) == 1
    assert bob.stderr is not None and "thrown out by the Coordinator" in bob.stderr.read()
    left = mcsa("conference", "leave", "Budget", "--host", "alpha", *keys["alice"], folder=folder)
    record = left.stdout.removeprefix("record: ").strip()
    verified = mcsa("record", "verify", record, "--anchors", str(domain / "anchors.pem"), folder=folder)
    assert verified.returncode == 0, verified.stderr


def _listen(folder: Path, *arguments: str, which: str = "Budget") -> subprocess.Popen[str]:
    hears_ctrl_c = ["env", "--default-signal=INT"]  # also where the tests run in the background of a shell
    return subprocess.Popen(
        [*hears_ctrl_c, sys.executable, "-u", "-m", "mcsa.cli", "conference", "listen", which, *arguments],
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _example() -> str:
    found = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.timeout(90)
def test_ctrl_c_while_a_domain_starts_is_an_interruption_and_leaves_nothing(tmp_path: Path) -> None:
    if kind().name != "namespaces":
        lacking(f"network namespaces: {kind().reason}")
    up = _up(tmp_path)
    while not list((tmp_path / "state" / "mcsa" / "domain" / "logs").glob("authorizer.log")):
        assert up.poll() is None
        time.sleep(0.02)
    os.killpg(up.pid, signal.SIGINT)  # as a terminal does it
    said, _ = up.communicate(timeout=30)
    assert up.returncode == 130, said
    assert "interrupted" in said and "did not start" not in said and "Traceback" not in said
    assert not list((tmp_path / "state" / "mcsa" / "laboratories").glob("*"))


@pytest.mark.timeout(90)
def test_a_domain_whose_broker_died_ends_and_says_so(tmp_path: Path) -> None:
    if kind().name != "namespaces":
        lacking(f"network namespaces: {kind().reason}")
    up = _up(tmp_path)
    note = tmp_path / "state" / "mcsa" / "running.json"
    while not note.exists():
        assert up.poll() is None
        time.sleep(0.1)
    broker = json.loads(note.read_text())["services"]["broker"]
    assert re.search(rf"broker +{broker} +running", mcsa("status", folder=tmp_path).stdout)
    os.kill(broker, signal.SIGKILL)
    said, _ = up.communicate(timeout=30)
    assert up.returncode == 1
    assert "the broker has ended with code -9; see " in said
    assert not note.exists()


@pytest.mark.timeout(90)
def test_who_listens_is_told_that_its_csm_has_died(tmp_path: Path) -> None:
    if kind().name != "namespaces":
        lacking(f"network namespaces: {kind().reason}")
    up = _up(tmp_path)
    note = tmp_path / "state" / "mcsa" / "running.json"
    while not note.exists():
        assert up.poll() is None
        time.sleep(0.1)
    alice = ["--host", "alpha", "--user", str(tmp_path / "state" / "mcsa" / "domain" / "user-alice.pem")]
    for said in ("", "another session is called 'Budget'"):
        started = mcsa("conference", "start", "Budget", "--open", *alice, folder=tmp_path)
        assert started.returncode == 0 and said in started.stderr and bool(said) == bool(started.stderr)
        while "Budget" not in mcsa("sessions", "--host", "alpha", folder=tmp_path).stdout:
            assert up.poll() is None
    (first, *_) = json.loads(mcsa("conference", "list", "--host", "alpha", "--json", folder=tmp_path).stdout)
    listener = _listen(tmp_path, *alice, which=first["conference_id"])
    time.sleep(3.0)  # it says nothing before it hears something
    os.kill(json.loads(note.read_text())["services"]["csm-alpha"], signal.SIGKILL)
    assert listener.wait(20) == 1
    assert listener.stderr is not None and "the CSM has ended" in listener.stderr.read()
    assert "csm-alpha has ended with code -9; see " in up.communicate(timeout=30)[0]
    assert up.returncode == 1


def _up(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "mcsa.cli", "up"],
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_the_readmes_example_has_at_most_fifteen_lines():
    example = _example()
    ast.parse(example)
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
