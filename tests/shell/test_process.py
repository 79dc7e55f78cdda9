"""What the kernel does for us."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcsa.shell import process
from mcsa.shell.nkeys import NkeySeed
from mcsa.shell.process import stop_event


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_no_core_is_dumped() -> None:
    program = (
        "import ctypes, resource; from mcsa.shell.process import forbid_core_dumps; forbid_core_dumps();"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    )
    assert run(program) == "(0, 0) 0"


def test_what_the_kernel_refuses_is_an_error() -> None:
    with pytest.raises(OSError, match="prctl"):
        process._prctl(process._PR_SET_PDEATHSIG, 12345)


def test_the_broker_dies_with_who_started_it(tmp_path: Path) -> None:
    """Even by SIGKILL, where nobody can clean up."""
    program = (
        "import sys, time; from pathlib import Path; from mcsa.broker import operator_grant;"
        "from mcsa.shell.broker_process import BrokerProcess;"
        "broker = BrokerProcess(Path(sys.argv[1]), [operator_grant(sys.argv[2])]).start();"
        "print(broker.process_id, flush=True); time.sleep(60)"
    )
    nkey = NkeySeed.draw(os.urandom).public
    with subprocess.Popen([sys.executable, "-c", program, tmp_path, nkey], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        broker = int(parent.stdout.readline())
        assert alive(broker)
        parent.kill()
        parent.wait()
    give_up_at = time.monotonic() + 10
    while alive(broker) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert not alive(broker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_is_an_event(number: signal.Signals) -> None:
    stop = stop_event()
    try:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        async with asyncio.timeout(10):
            await stop.wait()
        assert stop.is_set()
    finally:
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(each)


def alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_alive_means_alive() -> None:
    assert alive(os.getpid())
