"""The search in the memory of a process: it finds what is there, and only that."""

from __future__ import annotations

import os
import subprocess
import sys

from mcsa.demo.memory import holds
from tests.judges import require_root


def test_what_a_process_holds_is_found_and_what_it_does_not_is_not():
    require_root()
    kept, other = os.urandom(32), os.urandom(32)
    program = "import sys; kept = bytes.fromhex(sys.stdin.readline()); print('holding', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(kept.hex().encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"holding\n"
        found, absent = holds(process.pid, kept), holds(process.pid, other)
        process.stdin.close()
    assert (found, absent) == (True, False)


def test_a_process_that_is_not_there_tells_nothing():
    assert holds(2**22 + 7, b"x" * 32) is None
