"""Sound out of the audio group, at one participant, and into it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mcsa.demo.convene_and_join import AUDIO_PORT
from mcsa.demo.stage import Player, Stage
from mcsa.demo.telling import StepError

ENDS_WITHIN = 20.0  # seconds after the sender has ended


@dataclass
class AudioListener:
    """`python -m mcsa.audio receive` on a participant's host."""

    player: Player
    path: Path
    process: subprocess.Popen[str]

    @classmethod
    async def begin(cls, stage: Stage, player: Player, name: str) -> Self:
        """Listens from when this returns."""
        path = stage.folder / f"{name}-{player.user}.wav"
        socket = str(player.joined.socket("audio"))
        arguments = ["receive", "--json", "--socket", socket, "--port", str(AUDIO_PORT), str(path)]
        process = stage.start(player.host, "mcsa.audio", *arguments)
        assert process.stderr is not None
        if await asyncio.to_thread(process.stderr.readline) != "listening\n":
            raise StepError(f"{player.user} can't listen: {process.stderr.read()[-400:]}")
        return cls(player, path, process)

    @staticmethod
    async def play(stage: Stage, player: Player, path: Path) -> int:
        """Plays a file into the group; the number of packets."""
        socket = str(player.joined.socket("audio"))
        arguments = ["send", "--json", "--socket", socket, "--port", str(AUDIO_PORT), str(path)]
        return int(json.loads(await stage.output(player.host, "mcsa.audio", *arguments))["sent"])

    async def report(self) -> dict[str, Any]:
        """What was received of the first stream."""
        try:
            written, _ = await asyncio.to_thread(self.process.communicate, timeout=ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            written, _ = await asyncio.to_thread(self.process.communicate)
        streams = json.loads(written)["streams"]
        if not streams:
            raise StepError(f"{self.player.user} received no sound at all")
        stream: dict[str, Any] = streams[0]
        return stream


def same_samples(one: Path, other: Path) -> bool:
    """Whether two WAV files hold the same sound, bit for bit."""
    return _samples(one) == _samples(other)


def _samples(path: Path) -> tuple[Any, bytes]:
    with wave.open(str(path), "rb") as file:
        return file.getparams()[:3], file.readframes(file.getnframes())
