"""`python -m mcsa.audio` as processes, over real local sockets."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mcsa.audio.format import AudioFormat
from mcsa.audio.wav import open_wav, tone, write_wav
from tests.audio.parts import MONO, Wire, wire

AUDIO = [sys.executable, "-m", "mcsa.audio"]


def start_receiver(between: Wire, file: Path, *options: str) -> subprocess.Popen[str]:
    argv = [*AUDIO, "receive", "--socket", str(between.there.path), str(file), *options]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "listening\n"
    return process


def send(between: Wire, file: Path, *options: str) -> dict[str, Any]:
    argv = [*AUDIO, "send", "--socket", str(between.here.path), "--json", str(file), *options]
    said: dict[str, Any] = json.loads(subprocess.run(argv, check=True, capture_output=True, timeout=60).stdout)
    return said


def samples_of(file: Path) -> bytes:
    recording, _ = open_wav(file)
    with recording:
        return recording.readframes(10**7)


@pytest.mark.parametrize("audio_format", [MONO, AudioFormat(44_100, 2)], ids=str)
def test_a_file_arrives_bit_for_bit(tmp_path: Path, audio_format: AudioFormat) -> None:
    write_wav(tmp_path / "in.wav", audio_format, tone(audio_format))
    with wire(tmp_path / "run") as between:
        receiver = start_receiver(between, tmp_path / "out.wav", "--json")
        sent = send(between, tmp_path / "in.wav", "--seconds-real-time", "0.2")
        said, _ = receiver.communicate(timeout=30)
    [stream] = json.loads(said)["streams"]
    assert (stream["complete"], stream["received"], stream["ssrc"]) == (True, sent["sent"], sent["ssrc"])
    assert samples_of(tmp_path / "out.wav") == samples_of(tmp_path / "in.wav")


def test_faults_are_counted_and_told(tmp_path: Path) -> None:
    chance, held = random.Random(5), list[bytes]()

    def faults(payload: bytes) -> list[bytes]:
        """One in ten lost, one in ten twice, one in ten after the next one."""
        die = chance.randrange(10)
        if die == 0:
            return []
        if die == 1:
            held.append(payload)
            return []
        late, held[:] = list(held), []
        return [payload, *late] if die > 2 else [payload, payload, *late]

    write_wav(tmp_path / "in.wav", MONO, tone(MONO))
    with wire(tmp_path / "run", faults) as between:
        receiver = start_receiver(between, tmp_path / "out.wav")
        send(between, tmp_path / "in.wav", "--seconds-real-time", "0")
        said, _ = receiver.communicate(timeout=30)
    assert "packets, 0 lost" not in said
    assert " 0 twice" not in said
    assert " 0 out of order" not in said
    assert "silence at" in said
    there, here = samples_of(tmp_path / "out.wav"), samples_of(tmp_path / "in.wav")
    assert len(there) == len(here)
    assert all(
        part in (bytes(960), here[at : at + 960]) for at in range(0, len(here), 960) for part in [there[at : at + 960]]
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_valid_file(tmp_path: Path, number: signal.Signals) -> None:
    write_wav(tmp_path / "in.wav", MONO, tone(MONO, 0.5) * 40)
    with wire(tmp_path / "run") as between:
        receiver = start_receiver(between, tmp_path / "out.wav", "--json", "--port", "5004")
        argv = [*AUDIO, "send", "--socket", str(between.here.path), str(tmp_path / "in.wav")]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as sender:
            while (tmp_path / "out.wav").stat().st_size < 10_000:
                assert receiver.poll() is None
            receiver.send_signal(number)
            said, _ = receiver.communicate(timeout=30)
            sender.send_signal(number)
            assert sender.wait(30) == 0
    assert receiver.returncode == 0
    [stream] = json.loads(said)["streams"]
    assert (stream["ended"], stream["complete"]) == (False, False)
    there = samples_of(tmp_path / "out.wav")
    assert len(there) == 960 * stream["received"]
    assert there == samples_of(tmp_path / "in.wav")[: len(there)]


def test_other_ports_are_not_heard(tmp_path: Path) -> None:
    write_wav(tmp_path / "in.wav", MONO, tone(MONO, 0.1))
    with wire(tmp_path / "run") as between:
        receiver = start_receiver(between, tmp_path / "out.wav", "--port", "5006")
        send(between, tmp_path / "in.wav")
        receiver.terminate()
        assert receiver.communicate(timeout=30)[0] == "Nothing was heard.\n"


def test_an_msm_that_ends_ends_the_receiver(tmp_path: Path) -> None:
    with wire(tmp_path / "run") as between:
        receiver = start_receiver(between, tmp_path / "out.wav")
    assert receiver.communicate(timeout=30)[0] == "Nothing was heard.\n"


def test_a_tone_is_made_and_what_cannot_be_is_said(tmp_path: Path) -> None:
    made = tmp_path / "made.wav"
    subprocess.run([*AUDIO, "tone", "--format", "L16/8000/1", "--seconds", "1", str(made)], check=True, timeout=30)
    assert samples_of(made) == tone(AudioFormat(8_000, 1), 1.0)
    argv = [*AUDIO, "send", "--socket", str(tmp_path / "none.sock"), str(made)]
    failed = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert failed.returncode == 2
    assert failed.stderr.startswith("audio: Nobody answers at")
