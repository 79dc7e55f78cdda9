"""How a service's process ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mcsa.shell.run import BUG

SERVICE = """
import asyncio, threading
from mcsa.shell.run import run_service

class Settings:
    @classmethod
    def load(cls, path):
        return cls()

def fail():
    raise ZeroDivisionError("a bug of ours")

class Service:
    async def start(self):
        {bug}
    async def close(self):
        pass

run_service("test", Settings, lambda settings: Service(), [])
"""


@pytest.mark.parametrize(
    "bug",
    [
        "asyncio.get_running_loop().call_soon(fail)",
        "threading.Thread(target=fail).start()",
        "threading.Thread(target=fail, daemon=True).start()",
    ],
    ids=["in the loop", "in a thread", "in a daemon thread"],
)
def test_a_bug_of_ours_ends_the_process_and_says_where(bug: str) -> None:
    """A group whose receive thread has died would look like one in which nobody speaks."""
    program = SERVICE.format(bug=bug)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == BUG
    assert "ZeroDivisionError: a bug of ours" in ended.stderr
    assert "in fail" in ended.stderr
