"""ffmpeg, VLC and tshark see what we announce; we see what ffmpeg and VLC announce. In network namespaces."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mcsa.audio.format import AudioFormat
from mcsa.audio.wav import tone, write_wav
from mcsa.errors import Rejected
from mcsa.laboratory.capture import Capture
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.sap.announced import Send
from mcsa.sap.directory import Directory, Place
from mcsa.sap.packet import PORT
from mcsa.sap.schedule import Pace
from mcsa.sap.scopes import ADDRESSES, LOCAL
from mcsa.shell.multicast import MulticastListener
from tests.judges import require_program
from tests.sap.parts import described
from tests.world import World

SEEN_WITHIN = 25.0  # seconds; VLC announces each five
TITLE = "Budget meeting"


@contextmanager
def announcing(host: Host, sdp: bytes) -> Iterator[None]:
    """Our directory on a host, each half second."""
    directory = Directory(Place(host.address), os.urandom, Pace(floor=0.5))
    ended = threading.Event()
    with host.inside():
        listener = MulticastListener(ADDRESSES, PORT, host.address)

    def send(sends: list[Send]) -> None:
        for one in sends:
            listener.send(one.payload, one.address)

    def repeat() -> None:
        send(directory.announce(sdp, time.time())[1])
        while not ended.wait(0.2):
            send(directory.due(time.time()))

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        listener.close()


def heard(host: Host, laboratory: Laboratory, announce: Callable[[], subprocess.Popen[bytes]]) -> list[str]:
    """Titles that our directory on a host has heard, once there is one."""
    directory = Directory(Place(host.address), os.urandom)
    with host.inside():
        listener = MulticastListener(ADDRESSES, PORT, host.address)
    for address in ADDRESSES[:3]:
        laboratory.await_membership(host, address)
    process = announce()
    deadline = time.monotonic() + SEEN_WITHIN
    try:
        while not directory.sessions(time.time()) and time.monotonic() < deadline:
            time.sleep(0.1)
            while (found := listener.receive()) is not None:
                try:
                    directory.arrived(found.payload, found.source, found.group, time.time())
                except Rejected as rejected:
                    raise AssertionError(f"{found.payload!r}: {rejected}") from None
        return [entry.sdp.title for entry in directory.sessions(time.time())]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        listener.close()


def output_until(process: subprocess.Popen[bytes], wanted: str) -> str:
    """What a program says, until it says what is wanted or the time is over."""
    killer = threading.Timer(SEEN_WITHIN, os.killpg, (process.pid, signal.SIGKILL))
    killer.start()
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line.decode(errors="replace"))
        if wanted in said[-1]:
            break
    killer.cancel()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # runuser's child too
    process.wait()
    return "".join(said)


def test_ffmpeg_sees_ours(laboratory: Laboratory, world: World) -> None:
    ffprobe = require_program("ffprobe")
    gamma = laboratory["gamma"]
    with announcing(laboratory["alpha"], described(world)):
        command = [ffprobe, "-v", "debug", f"sap://{LOCAL}:{PORT}"]
        process = gamma.popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        said = output_until(process, f"s={TITLE}")
    assert f"s={TITLE}" in said
    assert "a=mcsa:1" in said or "Budget" in said


@pytest.mark.parametrize(
    ("groups", "said"),
    [(1, f"adding: {TITLE}"), (2, "Multiple media ports not supported -> live555")],
    ids=["one group", "several groups, which VLC adds too but gives to its live555 module without naming them"],
)
def test_vlc_sees_ours(laboratory: Laboratory, world: World, groups: int, said: str) -> None:
    vlc, runuser = require_program("cvlc"), require_program("runuser")
    gamma = laboratory["gamma"]
    with announcing(laboratory["alpha"], described(world, groups=groups)):
        command = [runuser, "-u", "nobody", "--", vlc, "-vvv", "-I", "dummy", "--services-discovery", "sap"]
        process = gamma.popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        log = output_until(process, said)
    assert said in log, log[-2000:]


def test_we_see_ffmpegs(laboratory: Laboratory) -> None:
    ffmpeg = require_program("ffmpeg")
    beta = laboratory["beta"]

    def announce() -> subprocess.Popen[bytes]:
        sound = ["-re", "-f", "lavfi", "-i", "sine", "-t", "30", "-ar", "8000", "-c:a", "pcm_mulaw"]
        command = [ffmpeg, "-v", "error", *sound, "-metadata", "title=by ffmpeg", "-f", "sap", "sap://239.255.7.9:5004"]
        return beta.popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    assert heard(laboratory["gamma"], laboratory, announce) == ["by ffmpeg"]


def test_we_see_vlcs(laboratory: Laboratory) -> None:
    vlc, runuser = require_program("cvlc"), require_program("runuser")
    beta = laboratory["beta"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        sound = Path(folder) / "sound.wav"
        audio_format = AudioFormat(48_000, 1)
        write_wav(sound, audio_format, tone(audio_format, 10.0))
        sound.chmod(0o644)
        chain = "#transcode{acodec=ulaw,samplerate=8000,channels=1}:rtp{dst=239.255.7.9,port=5004,sap,name=by VLC}"

        def announce() -> subprocess.Popen[bytes]:
            command = [runuser, "-u", "nobody", "--", vlc, "-I", "dummy", str(sound), "--loop", "--sout", chain]
            return beta.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

        assert heard(laboratory["gamma"], laboratory, announce) == ["by VLC"]


def test_tshark_finds_nothing_malformed_in_ours(laboratory: Laboratory, world: World, tmp_path: Path) -> None:
    tshark = require_program("tshark")
    alpha = laboratory["alpha"]
    capture = Capture(alpha, tmp_path / "sap.pcap")
    with announcing(alpha, described(world)):
        time.sleep(1.2)
    capture.stop()
    fields = ["sap.flags.v", "sap.flags.t", "sap.originating_source", "sdp.session_name", "_ws.malformed"]
    options = [option for field in fields for option in ("-e", field)]
    command = [tshark, "-r", str(capture.output), "-Y", "sap", "-T", "fields", "-E", "separator=;", *options]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(shown) >= 2
    assert set(shown) == {f"1;False;{alpha.address};{TITLE};"} or set(shown) == {f"1;0;{alpha.address};{TITLE};"}
