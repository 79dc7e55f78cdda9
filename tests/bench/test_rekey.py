"""A short run of the bench of rekeys: what is published of a protocol is there for each."""

import json
import subprocess
import sys

import pytest

from mcsa.gkm import schemes

PUBLISHED = {"leave_ms", "leave_wraps", "leave_bytes", "join_ms", "batch1000_ms", "bytes_per_member", "load_seconds"}


@pytest.mark.parametrize("gkm", sorted(schemes()))
def test_each_protocol_is_measured(gkm: str) -> None:
    is_tree = gkm == "lkh"  # a thousand leaves at once take others long
    command = [
        sys.executable,
        "-m",
        "bench",
        "rekey",
        "--gkm",
        gkm,
        "--members",
        "1000" if is_tree else "300",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    [line] = done.stdout.splitlines()
    figures = json.loads(line)
    assert figures.keys() >= PUBLISHED - (set() if is_tree else {"batch1000_ms"})
    assert all(value >= 0 for value in figures.values())
