"""Which kind of laboratory there is, and why; and an ordinary user's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcsa.laboratory.kind import inside_user_namespace, kind, reexec_in_user_namespace
from tests.judges import lacking, require_program, require_root

ROOT = Path(__file__).parents[2]
ORDINARY_USER = ROOT / "tests" / "laboratory" / "ordinary_user.py"
NOBODY = 65_534


def test_root_has_namespaces() -> None:
    require_root()
    if inside_user_namespace():
        assert kind().name == "user-namespaces"
    else:
        assert kind().name == "namespaces"
        reexec_in_user_namespace()  # needs none: returns


def test_where_both_are_refused_it_is_loopback_and_says_why() -> None:
    """The kernel refuses for real: in a user namespace whose limit of network namespaces is 0."""
    script = 'echo 0 > /proc/sys/user/max_net_namespaces && exec "$@"'
    asks = "from mcsa.laboratory.kind import kind; k = kind(); print(k.name, '/', k.reason)"
    argv = [
        require_program("unshare"),
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        script,
        "sh",
        sys.executable,
        "-c",
        asks,
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    if "Operation not permitted" in done.stderr:
        lacking("this test needs user namespaces")
    name, _, reason = done.stdout.strip().partition(" / ")
    assert name == "loopback", done.stderr
    assert "root may not make network namespaces (unshare: unshare failed: No space left on device)" in reason
    assert "user namespaces are refused (unshare: unshare failed: No space left on device)" in reason


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    from mcsa.laboratory.kind import _refusal

    assert "apt-get install iproute2" in _refusal(["unshare"])


@pytest.fixture
def homes() -> Iterator[Path]:
    """Directories that an ordinary user can reach, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        shutil.copytree(ROOT / "mcsa", Path(name) / "mcsa", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ORDINARY_USER, name)
        (Path(name) / "state").mkdir()
        if os.geteuid() == 0:
            os.chown(Path(name) / "state", NOBODY, NOBODY)
        yield Path(name)


@pytest.fixture
def runtime() -> Iterator[Path]:
    """The user's own directory below /run, which the private /run must not hide."""
    if os.geteuid() != 0:
        yield Path(os.environ.get("XDG_RUNTIME_DIR") or lacking("this user has no XDG_RUNTIME_DIR"))
        return
    with tempfile.TemporaryDirectory(dir="/run", prefix=f"mcsa-test-{os.getpid()}-") as name:
        os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def may_execute(prefix: list[str], path: str) -> bool:
    return subprocess.run([*prefix, "test", "-x", path], check=False).returncode == 0


def run_as_ordinary_user(homes: Path, runtime: Path) -> dict[str, object]:
    as_nobody = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    prefix = as_nobody if os.geteuid() == 0 else []
    # Root's own Python may be in root's home. The laboratory needs nothing but the standard library.
    python = next((path for path in (sys.executable, "/usr/bin/python3") if may_execute(prefix, path)), None)
    if python is None:
        lacking("an ordinary user can execute no Python here")
    environment = os.environ | {
        "XDG_STATE_HOME": str(homes / "state"),
        "XDG_RUNTIME_DIR": str(runtime),
        "PYTHONPATH": str(homes),
    }
    argv = [*prefix, python, str(homes / ORDINARY_USER.name), "an argument"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=homes)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    told: dict[str, object] = json.loads(output)
    assert told["process"] == process.pid  # the same process from first to last
    return told


def test_an_ordinary_user_gets_the_whole_laboratory(homes: Path, runtime: Path) -> None:
    if inside_user_namespace():
        lacking("this test is for outside of the user namespace")
    told = run_as_ordinary_user(homes, runtime)
    if told["kind"] == "loopback":
        lacking(f"no user namespaces: {told['reason']}")
    assert told["kind"] == "user-namespaces"
    assert told["arguments"] == ["an argument"]
    assert told["received"] == "from alpha"
    assert told["dropped"] is True
    assert told["captured"] == 1
    (runtime / "beta.pcap").unlink()
    assert not list(Path("/run/netns").glob(f"{told['name']}*"))  # not even its names are seen outside
    assert not list((homes / "state" / "mcsa" / "laboratories").iterdir())
