"""A short run of the bench: every mode proves what is sent, and says how long packets get."""

import json
import subprocess
import sys

from mcsa.source_authentication import modes


def test_every_mode_proves_packets_and_is_as_long_as_it_says() -> None:
    command = [sys.executable, "-m", "bench", "source-auth", "--rounds", "1", "--seconds", "0.1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["kpps_200"].keys() == figures["bytes_200"].keys() == set(modes())
    assert all(rate > 0 for rate in figures["kpps_200"].values())
    assert figures["bytes_200"] == {"none": 272, "signature": 336, "tree": 528, "tesla": 328}
    assert "Traceback" not in done.stderr
