"""The laboratory: what it makes, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mcsa.errors import Refused
from mcsa.laboratory.leftovers import processes_of, remove_leftovers
from mcsa.laboratory.namespaces import Laboratory
from mcsa.shell.multicast import GroupSocket

NAMESPACES = Path("/run/netns")


def test_names_carry_the_owners_process_id(laboratory: Laboratory) -> None:
    assert laboratory.name.startswith(f"mcsa-{os.getpid()}-")
    assert {path.name for path in NAMESPACES.glob(f"{laboratory.name}-*")} == set(laboratory.plan.namespaces)


def test_the_machines_own_network_is_untouched(laboratory: Laboratory) -> None:
    assert not {"br0", "alpha"} & {name for _, name in socket.if_nameindex()}
    assert "alpha" in laboratory.bridge.run(["ip", "link", "show", "master", "br0"])


def test_the_bridge_snoops_and_asks_in_version_3(laboratory: Laboratory) -> None:
    shown = laboratory.bridge.run(["ip", "-d", "link", "show", "br0"])
    for setting in ("mcast_snooping 1", "mcast_querier 1", "mcast_igmp_version 3", "mcast_mld_version 2"):
        assert setting in shown


def test_hosts_reach_one_another_and_a_server_on_the_infrastructure(laboratory: Laboratory) -> None:
    alpha, infrastructure = laboratory["alpha"], laboratory["infrastructure"]
    with infrastructure.inside():
        server = socket.create_server((infrastructure.address, 4222))
    with server, alpha.inside(), socket.create_connection((infrastructure.address, 4222), timeout=10) as client:
        assert client.getsockname()[0] == alpha.address


def test_inside_comes_back_also_after_an_error(laboratory: Laboratory) -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    with pytest.raises(KeyError), laboratory["alpha"].inside():
        assert os.readlink("/proc/thread-self/ns/net") != before
        raise KeyError
    assert os.readlink("/proc/thread-self/ns/net") == before


def test_a_program_that_fails_on_a_host_is_an_error(laboratory: Laboratory) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        laboratory["alpha"].run(["false"])


def test_waiting_for_a_membership_that_nobody_reports_ends(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcsa.laboratory.namespaces._REPORTS_WITHIN", 0.05)
    with pytest.raises(TimeoutError, match="alpha"):
        laboratory.await_membership(laboratory["alpha"], "239.255.126.126")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of the test's own; the laboratory's notes in it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "mcsa" / "laboratories"


@pytest.mark.usefixtures("laboratory_of_module")  # skips where there are no namespaces
class TestRemoval:
    def test_nothing_is_left_and_twice_is_once(self, state: Path) -> None:
        with Laboratory(("alpha", "beta")) as made:
            sleeper = made["alpha"].popen(["sleep", "1000"])
            stubborn = made["beta"].popen(
                ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"], stdout=-1
            )
            assert stubborn.stdout is not None
            stubborn.stdout.readline()
            note = state / f"{made.name}.json"
            assert note.exists()
        assert sleeper.returncode == -signal.SIGTERM
        assert stubborn.returncode == -signal.SIGKILL
        made.remove()
        assert not note.exists()
        assert not list(NAMESPACES.glob(f"{made.name}*"))
        assert processes_of(made.name, ()) == set()

    def test_processes_that_others_started_in_a_namespace_are_killed(self, state: Path) -> None:
        with Laboratory(("alpha",)) as made:
            stranger = subprocess.Popen(made["alpha"].command(["sleep", "1000"]))
            while stranger.pid not in processes_of(made.name, made.plan.namespaces):  # until `ip netns exec` is there
                assert stranger.poll() is None
        assert stranger.wait(10) == -signal.SIGKILL

    def test_a_failed_creation_leaves_nothing(self, state: Path) -> None:
        made = Laboratory(("alpha",))
        subprocess.run(["ip", "netns", "add", f"{made.name}-alpha"], check=True)
        with pytest.raises(Refused, match="File exists"):
            made.create()
        assert not list(NAMESPACES.glob(f"{made.name}*"))

    def test_what_a_killed_run_left_is_removed_by_its_process_id(self, state: Path) -> None:
        owner = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
        assert owner.stdout is not None
        name, sleeper = owner.stdout.readline().split()
        assert name not in remove_leftovers(owner.pid)  # it lives
        assert list(NAMESPACES.glob(f"{name}-*"))
        owner.kill()
        owner.wait()
        owner.stdout.close()
        assert remove_leftovers(os.getpid()) == []  # another's
        assert list(NAMESPACES.glob(f"{name}-*"))
        assert remove_leftovers(owner.pid) == [name]
        assert not list(NAMESPACES.glob(f"{name}-*"))
        assert int(sleeper) not in processes_of(name, ())
        assert list(state.iterdir()) == []
        assert remove_leftovers(owner.pid) == []

    def test_a_torn_note_is_passed_over(self, state: Path) -> None:
        state.mkdir(parents=True)
        (state / "mcsa-1-00.json").write_text("{")
        assert remove_leftovers() == []

    def test_a_state_directory_that_cant_be_written_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
        with pytest.raises(Refused, match="Set XDG_STATE_HOME"):
            Laboratory(("alpha",)).create()


KILLED = """
import time
from mcsa.laboratory.namespaces import Laboratory
with Laboratory(("alpha",)) as made:
    sleeper = made["alpha"].popen(["sleep", "1000"])
    print(made.name, sleeper.pid, flush=True)
    time.sleep(1000)
"""


class TestLoopback:
    def test_multicast_between_addresses_and_what_is_not_shown(self, state: Path) -> None:
        with Laboratory(("alpha", "beta"), kind_name="loopback") as made:
            assert made.kind == "loopback"
            assert any(sentence.startswith("IGMP") for sentence in made.not_shown)
            alpha, beta, group = made["alpha"], made["beta"], made.plan.group(1)
            with alpha.inside(), GroupSocket(group, 45_100, alpha.address, shared=True) as sender:
                with GroupSocket(group, 45_100, beta.address, shared=True) as receiver:
                    made.await_membership(beta, group)
                    receiver.socket.settimeout(10)
                    sender.send(b"over lo")
                    assert receiver.socket.recvfrom(100) == (b"over lo", (alpha.address, 45_100))
            assert alpha.run(["echo", "here"]) == "here\n"
            sleeper = beta.popen(["sleep", "1000"])
        assert sleeper.returncode == -signal.SIGTERM
        assert list(state.iterdir()) == []

    def test_faults_are_refused(self) -> None:
        made = Laboratory(("alpha",), kind_name="loopback")
        with pytest.raises(Refused, match="takes namespaces"):
            made.faults.drop_udp_port(9875)
        with pytest.raises(Refused, match="takes namespaces"):
            made.faults.lose(made["alpha"], 10)

    def test_namespaces_show_everything(self, laboratory: Laboratory) -> None:
        assert laboratory.not_shown == ()


def test_user_namespaces_need_the_reexecution_first() -> None:
    with pytest.raises(Refused, match="reexec_in_user_namespace"):
        Laboratory(("alpha",), kind_name="user-namespaces").create()
