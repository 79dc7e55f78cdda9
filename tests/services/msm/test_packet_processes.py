"""Groups spread over packet processes: what the relay's tests don't ask (`test_relay.py` has one of its ways here)."""

from __future__ import annotations

import io
import os
import pickle
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from mcsa.errors import Refused
from mcsa.esp.derive import TrafficKey
from mcsa.keys import GroupKey
from mcsa.laboratory.namespaces import Laboratory
from mcsa.networks import Networks
from mcsa.policy import complete_policy
from mcsa.shell.cores import Cores
from mcsa.shell.local import connect
from mcsa.source_authentication import SourceKey, SourcePublicKey
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm import packet_processes
from services.msm.drivers import DriverSettings, GroupAtWork
from services.msm.events import InstallEpoch, SendUnder, SetSource
from services.msm.packet_messages import Begin, Control, NotOpened, receive, send
from services.msm.packet_processes import PacketProcesses
from tests.services.msm.link import DOMAIN, EPOCH, GROUP_ID, KEY, key_of, until

_PEER = struct.Struct("iII")  # struct ucred, unix(7)


def _described(laboratory: Laboratory, number: int, name: str, gkm: str = "") -> GroupDescription:
    policy = complete_policy(GroupPolicy(gkm=gkm) if gkm else GroupPolicy())
    group_id, address = number.to_bytes(8, "big") * 2, laboratory.plan.group(number)
    return GroupDescription(group_id=group_id, name=name, address=address, port=5004, ttl=2, policy=policy)


def _process_of(group: GroupAtWork) -> int:
    """The one that listens at the group's local socket."""
    with connect(Path(group.socket_path), socket.SOCK_SEQPACKET) as application:
        raw = application.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        return int(_PEER.unpack(raw)[0])


@pytest.fixture
def spread(laboratory: Laboratory, tmp_path: Path) -> Iterator[PacketProcesses]:
    host = laboratory["alpha"]
    with host.inside():
        driver = PacketProcesses("relay", DriverSettings(Networks.only(host.address), tmp_path / "sockets"), 2)
    yield driver
    driver.close()


def test_conferences_are_spread_so_that_each_process_has_loud_and_quiet_groups(
    spread: PacketProcesses, laboratory: Laboratory
) -> None:
    names = ["control", "audio"] * 2
    groups = [spread.open(DOMAIN, _described(laboratory, 70 + n, name), [].append) for n, name in enumerate(names)]
    control, audio, other_control, other_audio = map(_process_of, groups)
    assert control != other_control
    assert audio != other_audio
    assert os.getpid() not in (control, audio, other_control, other_audio)
    groups[1].close()
    groups[1].close()
    again = spread.open(DOMAIN, _described(laboratory, 71, "audio"), [].append)
    assert _process_of(again) == audio


def test_groups_with_subgroups_stay_in_the_msm_s_own_process(spread: PacketProcesses, laboratory: Laboratory) -> None:
    with laboratory["alpha"].inside():
        group = spread.open(DOMAIN, _described(laboratory, 75, "audio", "iolus"), [].append)
    assert _process_of(group) == os.getpid()
    assert group.engine.group.name == "audio"
    group.close()
    elsewhere = spread.open(DOMAIN, _described(laboratory, 76, "audio"), [].append)
    with pytest.raises(Refused, match="isn't relayed"):
        _ = elsewhere.engine


def test_a_refusal_comes_back_with_its_sentence(laboratory: Laboratory, tmp_path: Path) -> None:
    host = laboratory["alpha"]
    with host.inside():
        driver = PacketProcesses("relay", DriverSettings(Networks.only("198.51.100.9"), tmp_path), 1)
    with pytest.raises(Refused, match=r"198\.51\.100\.9"):
        driver.open(DOMAIN, _described(laboratory, 77, "audio"), [].append)
    driver.move(Networks.only(host.address))
    driver.open(DOMAIN, _described(laboratory, 77, "audio"), [].append).close()  # nothing was left behind
    driver.close()


def test_one_without_files_for_another_group_refuses_that_one_and_goes_on(
    spread: PacketProcesses, laboratory: Laboratory
) -> None:
    """Its own limit counts, and not the MSM's."""
    groups = [spread.open(DOMAIN, _described(laboratory, 60 + n, "audio"), [].append) for n in range(2)]
    processes = [_process_of(group) for group in groups]
    for process in processes:
        resource.prlimit(process, resource.RLIMIT_NOFILE, (24, 24))
    with pytest.raises(Refused, match="LimitNOFILE"):
        spread.open(DOMAIN, _described(laboratory, 62, "audio"), [].append)
    assert [_process_of(group) for group in groups] == processes


def test_a_group_that_can_not_move_says_why(spread: PacketProcesses, laboratory: Laboratory) -> None:
    group = spread.open(DOMAIN, _described(laboratory, 78, "audio"), [].append)
    told: list[Refused] = []
    group.move("198.51.100.9", told.append)
    until(lambda: told)
    assert "198.51.100.9" in told[0].sentence


@pytest.mark.parametrize("name", ["tun", "xfrm"])
def test_drivers_that_have_all_groups_in_one_place_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"take `packet_processes` out of msm\.toml, or choose the driver relay"):
        PacketProcesses(name, DriverSettings(Networks.only("192.0.2.1"), tmp_path), 2)


def test_keys_go_to_a_packet_process_and_are_pickled_nowhere_else() -> None:
    ours, theirs = (Connection(end.detach()) for end in socket.socketpair())
    source = SourceKey()
    effects = [
        InstallEpoch(GROUP_ID, EPOCH, KEY),
        SendUnder(GROUP_ID, EPOCH, 7, key_of(7)),
        SetSource(GROUP_ID, 7, source, b""),
    ]
    with ours, theirs:
        for effect in effects:
            with pytest.raises(TypeError, match="not to be pickled"):
                pickle.dumps(effect)
            send(ours, Control(GROUP_ID, effect))
        send(ours, NotOpened(Refused("code", "rule", "The way out.")))
        install, under, source_set, refused = (receive(theirs) for _ in range(4))
    assert install.effect.key == KEY
    assert isinstance(install.effect.key, GroupKey)
    assert under.effect.key == key_of(7)
    assert isinstance(under.effect.key, TrafficKey)
    assert (under.effect.key.spi, under.effect.key.suite) == (key_of(7).spi, key_of(7).suite)
    signature = source_set.effect.key.sign(b"said")
    assert SourcePublicKey(source.public).verifies(signature, b"said")
    assert (refused.refused, refused.refused.sentence) == (Refused("code", "rule", ""), "The way out.")


def _unanswered(settings: DriverSettings) -> tuple[subprocess.Popen[bytes], Connection]:
    """A packet process, and the channel of an MSM that does nothing."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "services.msm.packet_process", str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
    channel: Connection = Connection(ours.detach())
    send(channel, Begin("relay", settings))
    return process, channel


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_the_msm_and_not_by_what_the_operator_tells_that_one(number: int, tmp_path: Path) -> None:
    process, channel = _unanswered(DriverSettings(Networks.only("127.0.0.1"), tmp_path))
    receive(channel)
    process.send_signal(number)
    receive(channel)  # it goes on counting
    channel.close()
    assert process.communicate(timeout=10)[1] == b""
    assert process.returncode == 0


def test_it_ends_where_the_msm_hangs(tmp_path: Path) -> None:
    process, channel = _unanswered(DriverSettings(Networks.only("127.0.0.1"), tmp_path))
    assert b"the MSM hangs" in process.communicate(timeout=30)[1]
    channel.close()


@pytest.fixture
def crashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ends the MSM, instead of ending us."""
    found: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda what: found.append(str(what.exc_value)))
    return found


def _kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def _stop(process: int) -> None:
    os.kill(process, signal.SIGSTOP)


@pytest.mark.parametrize(("fault", "sentence"), [(_kill, "has ended"), (_stop, "hangs")])
def test_one_that_dies_or_hangs_ends_the_msm(
    fault: Callable[[int], None],
    sentence: str,
    crashes: list[str],
    laboratory: Laboratory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if fault is _stop:
        monkeypatch.setattr(packet_processes, "LOOKS", 3)
    monkeypatch.setattr("mcsa.shell.child_process.END_WITHIN", 0.5)
    host = laboratory["alpha"]
    with host.inside():
        driver = PacketProcesses("relay", DriverSettings(Networks.only(host.address), tmp_path), 1)
    process = _process_of(driver.open(DOMAIN, _described(laboratory, 79, "audio"), [].append))
    fault(process)
    until(lambda: crashes)
    assert sentence in crashes[0]
    driver.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_each_process_begins_with_another_core() -> None:
    usable = sorted(os.sched_getaffinity(0))
    written = io.BytesIO()
    pickle.dump(Cores(usable).beginning_with(1), written)
    cores: Any = pickle.loads(written.getvalue())
    assert cores._wanted == (*usable[1:], *usable[:1])
    assert Cores().beginning_with(3)._wanted == ()


def test_who_hears_does_not_wait_while_something_long_is_sent(spread: PacketProcesses) -> None:
    """Else two full channels would have both ends wait for each other."""
    process = spread._processes[0]
    before = process.counted
    with process._sending:  # as somebody has who waits for room
        until(lambda: process.counted is not before)
        counted = process.counted
        until(lambda: process.counted is not counted)  # it is heard still
    until(lambda: process.counted is not counted)
