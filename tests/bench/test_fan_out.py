"""A short run of the bench: a rekey reaches every member both ways, and every member gets the key out of it."""

import json
import subprocess
import sys


def test_every_member_gets_the_rekey_both_ways() -> None:
    command = [sys.executable, "-m", "bench", "fan_out", "--members", "10", "--rounds", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["members"] == 10
    assert all(value > 0 for value in figures.values())
    assert "Traceback" not in done.stderr
