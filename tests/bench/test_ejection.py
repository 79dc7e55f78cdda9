"""A short run of the bench with everything real: all members get every new key, with and without loss."""

import json
import subprocess
import sys

import pytest


@pytest.mark.parametrize("loss", ["0", "0.3"])
def test_every_member_gets_the_new_key(loss: str) -> None:
    options = ["--members", "6", "--processes", "2", "--ejections", "3", "--loss", loss, "--json"]
    command = [sys.executable, "-m", "bench", "ejection", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    [line] = done.stdout.splitlines()
    figures = json.loads(line)
    assert figures["missed"] == 0
    assert figures["ejections"] == 3
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert "Traceback" not in done.stderr
