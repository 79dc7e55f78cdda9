"""ffmpeg, VLC, PulseAudio and tshark see what we announce; we see what ffmpeg, VLC, minisapserver and PulseAudio
announce. In network namespaces."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from mcsa.audio.format import AudioFormat
from mcsa.audio.wav import tone, write_wav
from mcsa.laboratory.capture import Capture
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.sap.packet import PORT
from mcsa.sap.scopes import GLOBAL, LINK, LOCAL, ipv6_address
from tests.judges import require_program
from tests.judges.sap import Start, announcing, listening, output_until, running
from tests.sap.parts import SECRET, described, foreign
from tests.world import World

TITLE = "Budget meeting"
PULSE_GROUP = "239.1.2.30"  # PulseAudio announces at the address of what it announces


def program(host: Host, *command: str, output: bool = False, **environment: str) -> Start:
    """A program on a host, in a process group of its own; `output` where somebody reads what it says."""

    def start() -> subprocess.Popen[bytes]:
        return host.popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if output else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if output else subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **environment},
        )

    return start


def pulseaudio(host: Host, folder: Path, *modules: str) -> Start:
    """A server of its own, with a sink that nobody hears."""
    script = folder / "script.pa"
    script.write_text("\n".join(f"load-module {module}" for module in ("module-null-sink sink_name=rtp", *modules)))
    command = [require_program("pulseaudio"), "-n", "-F", str(script), "--exit-idle-time=-1", "--use-pid-file=no", "-v"]
    own = {"XDG_RUNTIME_DIR": str(folder), "HOME": str(folder), "PULSE_RUNTIME_PATH": str(folder)}
    return program(host, *command, output=True, **own)


def vlc(host: Host, *options: str, output: bool = False) -> Start:
    """Not as root, which it refuses."""
    runuser = require_program("runuser")
    return program(host, runuser, "-u", "nobody", "--", require_program("cvlc"), "-I", "dummy", *options, output=output)


# ---- they see ours


def test_ffmpeg_sees_ours(laboratory: Laboratory, world: World) -> None:
    """On IPv4: its demuxer takes no IPv6 address."""
    ffprobe = require_program("ffprobe")
    with announcing(laboratory["alpha"], described(world)):
        command = [ffprobe, "-v", "debug", f"sap://{LOCAL}:{PORT}"]
        said = output_until(program(laboratory["gamma"], *command, output=True)(), f"s={TITLE}")
    assert f"s={TITLE}" in said


@pytest.mark.parametrize(
    ("groups", "said"),
    [(1, f"adding: {TITLE}"), (2, "Multiple media ports not supported -> live555")],
    ids=["one group", "several groups, which VLC adds too but gives to its live555 module without naming them"],
)
def test_vlc_sees_ours(laboratory: Laboratory, world: World, groups: int, said: str) -> None:
    watching = vlc(laboratory["gamma"], "-vvv", "--services-discovery", "sap", output=True)
    with announcing(laboratory["alpha"], described(world, groups=groups)):
        log = output_until(watching(), said)
    assert said in log, log[-2000:]


def test_vlc_sees_ours_on_ipv6(laboratory: Laboratory, world: World) -> None:
    sdp = described(world, groups=1).replace(b"IP4 239.255.77.1/8", b"IP6 ff15::77:1")
    watching = vlc(laboratory["gamma"], "-vvv", "--services-discovery", "sap", output=True)
    with announcing(laboratory["alpha"], sdp):
        log = output_until(watching(), f"adding: {TITLE}")
    assert f"adding: {TITLE}" in log, log[-3000:]


def test_pulseaudio_opens_ours_where_it_listens(laboratory: Laboratory, world: World, tmp_path: Path) -> None:
    """With a group that it knows how to play; it takes bare line feeds only, and no other address."""
    sdp = described(world).replace(b"RTP/AVP 96", b"RTP/AVP 10")
    with announcing(laboratory["alpha"], sdp, link=True):
        log = output_until(pulseaudio(laboratory["gamma"], tmp_path, "module-rtp-recv sink=rtp")(), "New session")
    assert f"New session '{TITLE}'" in log, log[-2000:]


# ---- we see theirs


def test_we_see_ffmpegs_and_its_deletion(laboratory: Laboratory) -> None:
    sound = ["-re", "-f", "lavfi", "-i", "sine", "-t", "30", "-ar", "8000", "-c:a", "pcm_mulaw"]
    command = [require_program("ffmpeg"), "-v", "error", *sound, "-metadata", "title=by ffmpeg"]
    start = program(laboratory["beta"], *command, "-f", "sap", "sap://239.255.7.9:5004")
    with listening(laboratory["gamma"], laboratory) as ears, running(start) as ffmpeg:
        (entry,) = ears.until(bool)
        assert (entry.sdp.title, entry.groups, set(entry.addresses)) == ("by ffmpeg", {GLOBAL}, {"239.255.7.9"})
        ffmpeg.send_signal(signal.SIGINT)
        assert ears.until(lambda entries: not entries) == []


def test_we_see_ffmpegs_on_ipv6(laboratory: Laboratory) -> None:
    sound = ["-re", "-f", "lavfi", "-i", "sine", "-t", "30", "-ar", "8000", "-c:a", "pcm_mulaw"]
    command = [require_program("ffmpeg"), "-v", "error", *sound, "-metadata", "title=by ffmpeg"]
    start = program(laboratory["beta"], *command, "-f", "sap", "sap://[ff1e::7:9]:5004")
    with listening(laboratory["gamma"], laboratory) as ears, running(start):
        (entry,) = ears.until(bool)
    assert (entry.sdp.title, set(entry.addresses)) == ("by ffmpeg", {"ff1e::7:9"})


def test_we_see_vlcs(laboratory: Laboratory) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        sound = Path(folder) / "sound.wav"
        audio_format = AudioFormat(48_000, 1)
        write_wav(sound, audio_format, tone(audio_format, 10.0))
        sound.chmod(0o644)
        chain = "#transcode{acodec=ulaw,samplerate=8000,channels=1}:rtp{dst=239.255.7.9,port=5004,sap,name=by VLC}"
        start = vlc(laboratory["beta"], str(sound), "--loop", "--sout", chain)
        with listening(laboratory["gamma"], laboratory) as ears, running(start):
            (entry,) = ears.until(bool)
    assert (entry.sdp.title, entry.groups) == ("by VLC", {LOCAL})


def test_we_see_minisapservers(laboratory: Laboratory, tmp_path: Path) -> None:
    """Its originating source is always 1.2.3.4, and its o= line has a name where an address belongs."""
    beta = laboratory["beta"]
    options = {"name": "by minisapserver", "user": "someone", "machine": "here", "site": "http://example.org"}
    options |= {"address": "239.255.7.9", "port": "5004", "program_ttl": "4"}
    lines = ["[global]", "sap_delay=1", f"interface={beta.interface}", "[program]"]
    configuration = tmp_path / "sap.cfg"
    configuration.write_text("\n".join([*lines, *(f"{name}={value}" for name, value in options.items())]) + "\n")
    start = program(beta, require_program("sapserver"), "-c", str(configuration))
    with listening(laboratory["gamma"], laboratory) as ears, running(start):
        (entry,) = ears.until(lambda entries: entries and entries[0].repeated)
    assert (entry.sdp.title, entry.packet.origin, entry.source) == ("by minisapserver", "1.2.3.4", beta.address)


def test_we_see_pulseaudios(laboratory: Laboratory, tmp_path: Path) -> None:
    beta = laboratory["beta"]
    send = f"module-rtp-send source=rtp.monitor destination_ip={PULSE_GROUP} source_ip={beta.address}"
    with (
        listening(laboratory["gamma"], laboratory, more=[PULSE_GROUP]) as ears,
        running(pulseaudio(beta, tmp_path, send)),
    ):
        (entry,) = ears.until(bool)
    assert entry.sdp.title.startswith("PulseAudio RTP Stream")
    assert (entry.groups, set(entry.addresses)) == ({PULSE_GROUP}, {PULSE_GROUP})


# ---- tshark reads what we say


def test_tshark_finds_nothing_malformed_in_ours(laboratory: Laboratory, world: World, tmp_path: Path) -> None:
    """Announcements and deletion, IPv4, IPv6 and the link's bare line feeds."""
    tshark, alpha = require_program("tshark"), laboratory["alpha"]
    capture = Capture(alpha, tmp_path / "sap.pcap")
    sdp = described(world)
    with announcing(alpha, sdp, link=True) as directory:
        six = foreign("on IPv6", session=6).replace(b"IP4 239.255.7.9/5", b"IP6 ff18::7:9")
        directory.send(directory.directory.announce(six, time.time())[1])
        time.sleep(1.2)
        directory.send(directory.directory.withdraw(sdp, SECRET, time.time()))
        directory.send(directory.directory.withdraw(six, b"", time.time()))
    capture.stop()
    fields = ["sap.flags.v", "sap.flags.t", "ip.dst", "ipv6.dst", "sdp.session_name", "_ws.malformed", "sdp.invalid"]
    options = [option for field in fields for option in ("-e", field)]
    command = [tshark, "-r", str(capture.output), "-Y", "sap", "-T", "fields", "-E", "separator=;", *options]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    read = {line.replace(";True;", ";1;").replace(";False;", ";0;") for line in shown}
    site, on_link, six_address = f"{LOCAL};", f"{LINK};", f";{ipv6_address(8)}"
    announced = {f"1;0;{site};{TITLE};;", f"1;0;{on_link};{TITLE};;", f"1;0;{six_address};on IPv6;;"}
    assert announced <= read, read
    deletions = {line for line in read if line.startswith("1;1;")}
    assert {line.split(";")[2] + line.split(";")[3] for line in deletions} == {LOCAL, LINK, ipv6_address(8)}
    assert not [line for line in read - announced if not line.startswith("1;1;")], read
    assert not [line for line in read if line.split(";")[5]], read
