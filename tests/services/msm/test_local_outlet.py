"""The local socket of a group at work: what one application does must not end it for the others."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from mcsa.errors import Refused
from mcsa.laboratory.namespaces import Laboratory
from mcsa.shell import local_frames
from mcsa.shell.local import connect
from mcsa.shell.local_batches import ASK_FOR_BATCHES
from mcsa.shell.local_frames import FrameServer, OutgoingFrame, connect_frames, parse_incoming
from tests.services.msm.link import PORT, WITHIN, Host, until


@pytest.fixture
def hosts(laboratory: Laboratory, tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    group = laboratory.plan.group(97)
    alpha, gamma = (Host(laboratory, name, tmp_path, group) for name in ("alpha", "gamma"))
    for host, own in ((alpha, 1), (gamma, 2)):
        host.key({1: alpha.address, 2: gamma.address}, own)
    yield alpha, gamma
    alpha.close()
    gamma.close()


def clients(host: Host) -> FrameServer:
    return host.group._local._frames


def test_after_a_lazy_application_was_disconnected_the_next_one_is_served(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may get the lazy one's descriptor. (A thread that died of that left the group deaf to all applications.)"""
    alpha, gamma = hosts
    monkeypatch.setattr(local_frames, "PATIENCE", 10)
    path = Path(gamma.group.socket_path)
    with closing(connect(path, socket.SOCK_SEQPACKET)) as lazy:
        until(lambda: len(clients(gamma).clients) == 2)
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as following:  # before a number is free
            while len(clients(gamma).clients) == 2:
                alpha.say(bytes(1_300))
                gamma.hear()
            following.connect(str(path))
            following.settimeout(WITHIN)
            following.send(OutgoingFrame(PORT, PORT, b"hello").encode())
            assert alpha.hear() == (2, b"hello")
            alpha.say(b"welcome")
            assert parse_incoming(following.recv(100)).payload == b"welcome"
        while lazy.recv(local_frames.LARGEST_FRAME):  # it reads what was kept for it, and then that it was disconnected
            pass


def test_applications_come_and_go_while_packets_do(hosts: tuple[Host, Host]) -> None:
    alpha, gamma = hosts
    path = Path(gamma.group.socket_path)
    for number in range(300):
        with closing(connect(path, socket.SOCK_SEQPACKET)) as visitor:
            alpha.say(b"%d" % number)
            if number % 2:
                visitor.send(OutgoingFrame(PORT, PORT, b"visitor").encode())
        assert gamma.hear() == (1, b"%d" % number)
    for _ in range(150):
        assert alpha.hear() == (2, b"visitor")
    until(lambda: len(clients(gamma).clients) == 1)


def _heard_after(visitor: socket.socket, hearer: Host, payload: bytes) -> bool:
    """Says it, and hears what there is."""
    visitor.send(OutgoingFrame(PORT, PORT, payload).encode())
    with suppress(TimeoutError):
        while hearer.hear() != (1, payload):
            pass
        return True
    return False


def test_rubbish_from_an_application_ends_nothing(hosts: tuple[Host, Host]) -> None:
    """Whatever it says: of all sizes, half of it with the beginning of a frame or of a batch."""
    alpha, gamma = hosts
    draw = random.Random(7)
    begins = [b"", bytes(2), bytes(2) + (44).to_bytes(2, "big"), bytes(4), PORT.to_bytes(2, "big") * 2, ASK_FOR_BATCHES]
    with closing(connect(Path(alpha.group.socket_path), socket.SOCK_SEQPACKET)) as visitor:
        visitor.settimeout(WITHIN)
        for number in range(2_000):
            size = draw.choice([0, 1, 4, 8, 9, 60, 1_000]) if number % 50 else 60_000
            visitor.send(draw.choice(begins) + draw.randbytes(size) or b"x")
        gamma.application.settimeout(0.2)
        until(lambda: _heard_after(visitor, gamma, b"after all that"))  # what came before may have filled its room
    counted = alpha.group.counters()
    assert counted["unsent.frame"] > 100 and counted["sent"] > 100


FEW_FILES = """
import os, resource, sys
from collections import Counter
from pathlib import Path
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.local_outlet import LocalOutlet

class Speaker:
    group = GroupDescription(group_id=bytes(16), name="audio")
    counted = Counter()
    def say(self, payloads, source_port, destination_port):
        print(payloads[0].decode(), flush=True)

resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
outlet = LocalOutlet(Path(sys.argv[1]), Speaker())
print(outlet.socket_path, flush=True)
held = []
for line in sys.stdin:
    if line == "fill\\n":
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
    elif line == "free\\n":
        while held:
            os.close(held.pop())
    print(Speaker.counted["local.unserved"], flush=True)
outlet.close()
"""


class FewFiles:
    """A group's local socket in a process of its own that may open few files."""

    def __init__(self, folder: Path) -> None:
        argv = [sys.executable, "-c", FEW_FILES, str(folder)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.path = Path(self.says())

    def says(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def does(self, what: str) -> int:
        """How many applications it could not serve so far."""
        assert self._process.stdin is not None
        print(what, file=self._process.stdin, flush=True)
        return int(self.says())

    def hears(self, application: socket.socket, payload: str) -> None:
        application.send(OutgoingFrame(PORT, PORT, payload.encode()).encode())
        assert self.says() == payload

    def ends(self) -> int:
        self._process.communicate(timeout=WITHIN)
        return self._process.returncode


@pytest.mark.parametrize("filled", [False, True], ids=["by applications", "by others"])
def test_without_files_to_open_the_others_are_served_and_later_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled: bool
) -> None:
    """Before, one application too many ended the MSM."""
    monkeypatch.setattr(local_frames, "SERVED_WITHIN", 2.5)
    few = FewFiles(tmp_path / "sockets")
    with ExitStack() as opened:
        applications = [opened.enter_context(connect_frames(few.path))]
        if filled:
            few.does("fill")
        with pytest.raises(Refused, match="takes no application more"):
            while True:
                applications.append(opened.enter_context(connect_frames(few.path)))
        assert len(applications) < 40
        few.hears(applications[0], "served all the same")
        assert 0 < few.does("count") < 10  # it doesn't spin
        for application in applications[1:]:
            application.close()
        few.does("free")
        few.hears(opened.enter_context(connect_frames(few.path)), "served again")
    assert few.ends() == 0
