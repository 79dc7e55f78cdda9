"""Short runs of the benches of packets: every published figure is there, and what can be measured here is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.c_program import built
from bench.peers import blocks_of


def figures(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "Traceback" not in done.stderr
    [line] = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def has_srtpenc() -> bool:
    asked = ["gst-inspect-1.0", "--exists", "srtpenc"]
    return shutil.which(asked[0]) is not None and subprocess.run(asked, check=False).returncode == 0


def test_packets() -> None:
    found = figures("packets", "--rounds", "1", "--seconds", "0.05")
    names = ("", "sent_", "c_", "c_sent_", "relay_", "plain_", "single_", "plain_single_")
    published = {f"{name}kpps_{size}" for name in names for size in (1_400, 200)}
    shares = {"of_c_1400", "of_c_200", "of_plain_single_1400"}
    alone = {f"{name}_kpps_{size}" for name in ("sealed", "srtp") for size in (1_300, 200)}
    assert found.keys() == published | shares | alone | {"network"}
    builds = shutil.which("gcc") is not None and Path("/usr/include/openssl/evp.h").exists()
    for name in published:
        assert found[name] > 0 if builds or not name.startswith("c_") else found[name] is None


def test_without_a_compiler_the_c_program_is_null(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with built() as program:
        assert program is None


def test_senders() -> None:
    found = figures("senders", "--senders", "20", "--rounds", "1")
    assert found["senders"] == 20
    assert found["kpps"] > 0
    assert found["single_kpps"] > 0
    assert found["bytes_per_sender"] >= 0


def test_loss() -> None:
    found = figures("loss", "--seconds", "0.2")
    assert found["highest_kpps_1400"] > found["paced_kpps_1400"] > 0
    assert found["lost_1400"] >= 0


def test_peers() -> None:
    found = figures("peers", "--rounds", "1")
    assert found["kpps_1400"] > 0
    assert found["uftp_kpps_1400"] > 0 if shutil.which("uftpd") else found["uftp_kpps_1400"] is None
    assert found["gstreamer_kpps_1300"] > 0 if has_srtpenc() else found["gstreamer_kpps_1300"] is None


def test_the_throughput_that_uftp_says() -> None:
    assert blocks_of("...\nTotal elapsed time: 0.775 seconds\nOverall throughput: 66025.50 KB/s\n---") == 48.3
    with pytest.raises(ValueError, match="throughput"):
        blocks_of("Sending ANNOUNCE 20")
