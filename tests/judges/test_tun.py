"""Unmodified programs across two hosts secured by the driver `tun`: ffmpeg, GStreamer's rtpbin, iperf, VLC."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mcsa.audio.format import AudioFormat
from mcsa.audio.wav import tone, write_wav
from mcsa.demo.players import play_command, session_text
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.v1.msm_pb2 import GroupState
from mcsa.v1.types_pb2 import GroupDescription
from tests.judges import lacking, require_program
from tests.services.msm.link import until
from tests.services.msm.test_tun import HOSTS, Side

GROUP, PORT = 87, 5004
SYSTEM_PYTHON = "/usr/bin/python3"  # which has Debian's bindings of GStreamer


@pytest.fixture(params=["udp", "esp"])
def sides(request: pytest.FixtureRequest, laboratory: Laboratory, tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    made = [Side(laboratory, name, tmp_path) for name in HOSTS]
    for side in made:
        side.open(GROUP, wire=request.param)
    yield made[0], made[1]
    for side in made:
        side.close()


@pytest.fixture
def group(laboratory: Laboratory) -> GroupDescription:
    return GroupDescription(address=laboratory.plan.group(GROUP), port=PORT, ttl=8)


def started(host: Host, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    return host.popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def await_socket(host: Host, process: subprocess.Popen[str], port: int = PORT) -> None:
    while f":{port:04X} " not in host.run(["cat", "/proc/net/udp"]):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def growing(path: Path) -> Iterator[int]:
    """Its size, until that stays the same for a second."""
    size, give_up_at = -1, time.monotonic() + 30
    while (now := path.stat().st_size if path.exists() else 0) != size or not size:
        size = now
        yield size
        time.sleep(1.0)
        assert time.monotonic() < give_up_at


@pytest.mark.parametrize("audio_format", [AudioFormat(48_000, 2), AudioFormat(44_100, 1)], ids=str)
def test_ffmpeg_talks_to_ffmpeg_bit_for_bit(
    sides: tuple[Side, Side], group: GroupDescription, tmp_path: Path, audio_format: AudioFormat
) -> None:
    alpha, gamma = sides
    ffmpeg, samples = require_program("ffmpeg"), tone(audio_format, 2.0)
    write_wav(tmp_path / "in.wav", audio_format, samples)
    (tmp_path / "x.sdp").write_text(session_text(group, audio_format))
    listening = [ffmpeg, "-v", "error", "-protocol_whitelist", "file,udp,rtp", "-i", str(tmp_path / "x.sdp")]
    recorder = started(gamma.host, [*listening, "-f", "s16le", "-flush_packets", "1", str(tmp_path / "out.raw")])
    await_socket(gamma.host, recorder)
    alpha.host.run(play_command(GroupState(group=group), tmp_path / "in.wav"))
    assert list(growing(tmp_path / "out.raw"))
    recorder.kill()
    recorder.communicate()
    assert (tmp_path / "out.raw").read_bytes() == samples


def test_rtpbin_reports_no_loss_and_no_reordering(
    sides: tuple[Side, Side], group: GroupDescription, tmp_path: Path
) -> None:
    alpha, gamma = sides
    program = Path(__file__).with_name("rtpbin_listener.py")
    audio_format, seconds = AudioFormat(48_000, 2), 3.0
    samples = tone(audio_format, seconds)
    write_wav(tmp_path / "in.wav", audio_format, samples)
    if subprocess.run([SYSTEM_PYTHON, "-c", "import gi; gi.require_version('Gst', '1.0')"], check=False).returncode:
        lacking("GStreamer's bindings for Python are not installed: make judges")
    require_program("ffmpeg")
    described = [str(audio_format.rate), str(audio_format.channels), str(audio_format.payload_type)]
    argv = [SYSTEM_PYTHON, str(program), group.address, str(group.port), *described, str(tmp_path / "out.raw")]
    listener = started(gamma.host, argv)
    assert listener.stdout is not None
    assert listener.stdout.readline() == "listening\n", listener.communicate()
    alpha.host.run(play_command(GroupState(group=group), tmp_path / "in.wav"))
    said, complaint = listener.communicate(timeout=30)
    told = json.loads(said)
    assert told["arrived"] == told["num-pushed"] > 400, complaint
    assert (told["num-lost"], told["num-late"], told["num-duplicates"]) == (0, 0, 0)
    assert told["source"]["packets-received"] == told["arrived"]
    assert told["source"]["packets-lost"] <= 0  # it leaves the first out of what it expected
    assert (tmp_path / "out.raw").read_bytes() == samples


def test_iperf_loses_nothing(sides: tuple[Side, Side], group: GroupDescription) -> None:
    alpha, gamma = sides
    iperf = require_program("iperf")
    server = started(gamma.host, [iperf, "-s", "-u", "-B", group.address, "-p", str(PORT), "-l", "1400", "-y", "C"])
    await_socket(gamma.host, server)
    client = ["-c", group.address, "-p", str(PORT), "-u", "-l", "1400", "-b", "5m", "-t", "3", "-T", "4", "-y", "C"]
    alpha.host.run([iperf, *client])
    time.sleep(1.0)
    server.terminate()
    said, complaint = server.communicate(timeout=10)
    assert said, complaint
    fields = said.splitlines()[-1].split(",")  # ..., 10: lost, 11: of how many, 12: per cent, 13: out of order
    assert fields[1] == alpha.host.address
    assert (int(fields[10]), int(fields[13])) == (0, 0)
    assert int(fields[11]) > 1_000


def test_vlc_is_heard_by_ffmpeg(sides: tuple[Side, Side], group: GroupDescription, tmp_path: Path) -> None:
    """VLC connects its socket to the group, which makes Linux choose the interface by the source address."""
    alpha, gamma = sides
    vlc, ffmpeg = require_program("cvlc"), require_program("ffmpeg")
    telephone = (
        session_text(group, AudioFormat(8_000, 1)).partition("m=audio")[0] + f"m=audio {group.port} RTP/AVP 0\r\n"
    )
    (tmp_path / "x.sdp").write_text(telephone)
    recording = tmp_path / "out.raw"
    listening = [ffmpeg, "-v", "error", "-protocol_whitelist", "file,udp,rtp", "-i", str(tmp_path / "x.sdp")]
    recorder = started(gamma.host, [*listening, "-f", "s16le", "-flush_packets", "1", str(recording)])
    await_socket(gamma.host, recorder)
    with tempfile.NamedTemporaryFile(suffix=".wav") as sound:  # where another user can read it
        write_wav(Path(sound.name), AudioFormat(48_000, 2), tone(AudioFormat(48_000, 2), 5.0))
        Path(sound.name).chmod(0o644)
        chain = f"#transcode{{acodec=ulaw,samplerate=8000,channels=1}}:rtp{{dst={group.address},port={group.port}}}"
        nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]  # VLC refuses to run as root
        player = started(alpha.host, [*nobody, vlc, "-I", "dummy", sound.name, "--loop", "--sout", chain])
        until(lambda: recording.exists() and recording.stat().st_size > 8_000 * 2)
    player.kill()
    recorder.kill()
    player.communicate()
    recorder.communicate()
