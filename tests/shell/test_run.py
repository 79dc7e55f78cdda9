"""How a service's process ends."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

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


FEW_FILES = """
import asyncio, os, resource, sys
from mcsa.shell.run import run_service

class Settings:
    @classmethod
    def load(cls, path):
        return cls()

class Service:
    async def start(self):
        self.server = await asyncio.start_unix_server(self.greet, sys.argv[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        asyncio.get_running_loop().call_later(0.5, lambda: [os.close(each) for each in held])
    async def greet(self, reader, writer):
        writer.write(b"served")
        await writer.drain()
        writer.close()
    async def close(self):
        self.server.close()

run_service("test", Settings, lambda settings: Service(), [])
"""


def test_a_connection_for_which_no_file_is_left_ends_nothing_and_is_served_later(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    process = subprocess.Popen([sys.executable, "-c", FEW_FILES, path], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        while '"ready"' not in (line := process.stderr.readline()):
            assert line
        with socket.socket(socket.AF_UNIX) as application:
            application.settimeout(20.0)
            application.connect(path)
            assert application.recv(10) == b"served"
        process.terminate()
        said = process.communicate(timeout=20.0)[1]
        assert process.returncode == 0
        assert said.count("out of system resource: Too many open files") == 1
    finally:
        process.kill()
        process.communicate()
