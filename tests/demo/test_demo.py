"""`mcsa demo`, as a newcomer runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcsa.laboratory.kind import kind
from tests.judges import lacking, require_program

STEPS = ["convene", "join", "refuse", "key", "talk", "eject", "record", "summary"]


def run_demo(
    folder: Path, *arguments: str, text: str = "", **variables: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, object]]:
    output = folder / "demo.json"
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "TMPDIR": str(folder), **variables}
    command = [sys.executable, "-m", "mcsa.cli", "demo", "--json", str(output), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, input=text, env=environment, check=False)
    return done, json.loads(output.read_text())


@pytest.mark.timeout(150)
def test_every_step_does_what_it_should_and_nothing_is_left(tmp_path: Path) -> None:
    if kind().name == "loopback":
        lacking(f"the whole demo needs network namespaces: {kind().reason}")
    done, told = run_demo(tmp_path, "--lines", "-", text="first line\n\nsecond line\n")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert told["ok"] is True
    assert [step["name"] for step in told["steps"]] == STEPS  # type: ignore[attr-defined]
    figures = told["figures"]
    assert isinstance(figures, dict)
    assert figures["refused_by_rule"] == "closed-group-admits-acceptable-users-only"
    assert figures["lines"] == 2
    assert figures["ejected_opened"] == 0
    assert figures["lost_during_ejection"] == {"bob": 0}
    assert figures["mallory_saw"]["groups"]["esp-udp"] >= 100
    assert "first line" in done.stdout and "\x1b" not in done.stdout  # plain text where it is no terminal
    assert not list((tmp_path / "state" / "mcsa" / "laboratories").glob("*"))
    assert not _processes_in(tmp_path)


@pytest.mark.timeout(180)
def test_unmodified_programs_talk(tmp_path: Path) -> None:
    if kind().name == "loopback":
        lacking(f"the driver tun needs network namespaces: {kind().reason}")
    require_program("ffmpeg")
    done, told = run_demo(tmp_path, "--driver", "tun", "--player", "ffmpeg")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    figures = told["figures"]
    assert isinstance(figures, dict)
    assert figures["player"]["bytes"] == 576_000  # six seconds, compared bit for bit at each receiver
    packets = figures["player"]["packets"]
    assert packets["bob"]["opened"] >= packets["alice"]["sent"] >= 576_000 / 1_400
    assert figures["lost_during_ejection"] == {"bob": 0}
    assert not _processes_in(tmp_path)


@pytest.mark.timeout(150)
def test_a_step_that_goes_wrong_is_told_and_gives_exit_code_1(tmp_path: Path) -> None:
    if kind().name == "loopback":
        lacking(f"the demo needs network namespaces: {kind().reason}")
    done, told = run_demo(tmp_path, MCSA_POOL="239.255.9.9/32")
    assert done.returncode == 1
    assert told["ok"] is False
    assert "no address is left" in done.stdout
    assert not _processes_in(tmp_path)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (("--gkm", "rot13"), "there is no"),
        (("--ckgds", "rot13"), "there is no"),
        (("--source-authentication", "rot13"), "there are: none, signature, tesla, tree"),
        (("--lines", "/no/such/file"), "there is no"),
        (("--audio", "README.md"), "isn't a PCM WAV file"),
        (("--driver", "carrier-pigeon"), "there is no driver"),
        (("--player", "gramophone"), "there is no player"),
        (("--player", "ffmpeg"), "add --driver tun"),
        (("--json", "/no/such/folder/file"), "can't be written"),
    ],
)
def test_what_is_asked_for_wrongly_is_wrong_usage_before_anything_starts(asked: tuple[str, str], why: str) -> None:
    command = [sys.executable, "-m", "mcsa.cli", "demo", *asked]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env=environment)
    assert done.returncode == 2
    assert not done.stdout
    assert why in done.stderr and asked[1] in done.stderr


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("when", "number"),
    [
        ("hosts are namespaces", signal.SIGINT),
        ("hosts are namespaces", signal.SIGHUP),
        ("Alice convenes", signal.SIGINT),
        ("Alice convenes", signal.SIGTERM),
    ],
)
def test_a_demo_that_is_ended_early_leaves_nothing_but_its_files(
    tmp_path: Path, number: signal.Signals, when: str
) -> None:
    if kind().name != "namespaces":
        lacking(f"network namespaces: {kind().reason}")
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "TMPDIR": str(tmp_path), "COLUMNS": "200"}
    with (tmp_path / "told").open("w+") as told:
        command = [sys.executable, "-u", "-m", "mcsa.cli", "demo"]
        demo = subprocess.Popen(command, stdout=told, stderr=told, env=environment, start_new_session=True)
        try:
            while when not in (tmp_path / "told").read_text():
                assert demo.poll() is None
                time.sleep(0.1)
            if number is signal.SIGINT:
                os.killpg(demo.pid, number)  # as a terminal does it
            else:
                demo.send_signal(number)
            assert demo.wait(30) == 130
        finally:
            demo.kill()
            demo.wait()
    said = (tmp_path / "told").read_text()
    assert "interrupted; files are kept in " in said
    assert not any(word in said for word in ("went wrong", "did not", "FAILED", "Traceback")), said
    assert not list((tmp_path / "state" / "mcsa" / "laboratories").glob("*"))
    assert not _processes_in(tmp_path)


def _processes_in(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found
