"""Unmodified programs that play a file into a group and record what comes out of it, by the group's own address.

They know nothing of MCSA: with the driver `tun` an ordinary socket is enough.
"""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mcsa.audio.format import AudioFormat
from mcsa.audio.wav import open_wav
from mcsa.demo.stage import Player, Stage, until
from mcsa.demo.telling import StepError
from mcsa.shell.programs import program
from mcsa.v1.msm_pb2 import GroupState
from mcsa.v1.types_pb2 import GroupDescription

PACKET_SIZE = 1_400  # bytes of RTP, where the group's packets take no less
QUIET_FOR = 1.0  # seconds without another sample after which a recording is whole
LISTENS_WITHIN = 10.0  # seconds


def player_program(name: str) -> str:
    """Its path; `Refused` with the package to install where there is none."""
    return program(name, "player")


def session_text(group: GroupDescription, audio_format: AudioFormat) -> str:
    """SDP (RFC 8866) as any player takes it: where the sound is and what it is."""
    return "\r\n".join(
        (
            "v=0",
            f"o=- 1 1 IN IP4 {group.address}",
            "s=MCSA demo",
            f"c=IN IP4 {group.address}/{group.ttl or 1}",
            "t=0 0",
            f"m=audio {group.port} RTP/AVP {audio_format.payload_type}",
            f"a=rtpmap:{audio_format.payload_type} {audio_format}",
            "",
        )
    )


@dataclass
class PlayerListener:
    """ffmpeg on a participant's host, recording."""

    player: Player
    path: Path
    command: str
    process: subprocess.Popen[bytes]

    @classmethod
    async def begin(cls, stage: Stage, player: Player, group: GroupDescription, audio_format: AudioFormat) -> Self:
        """Listens from when this returns."""
        session = stage.folder / f"player-{player.user}.sdp"
        session.write_text(session_text(group, audio_format))
        path = session.with_suffix(".raw")
        argv = [player_program("ffmpeg"), "-v", "error", "-protocol_whitelist", "file,udp,rtp", "-i", str(session)]
        argv += ["-f", "s16le", "-flush_packets", "1", "-y", str(path)]
        process = player.host.popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        listener = cls(player, path, shlex.join(argv), process)

        async def listens() -> bool:
            if process.poll() is not None:
                raise StepError(f"{player.user}'s ffmpeg ended: {listener.complaint()}")
            ports = await asyncio.to_thread(player.host.run, ["cat", "/proc/net/udp"])
            return f":{group.port:04X} " in ports

        await until(listens, LISTENS_WITHIN, f"that {player.user}'s ffmpeg listens")
        return listener

    async def samples(self) -> bytes:
        """What it recorded, once no more comes; 16-bit, little-endian. Then it is killed: asked to end, ffmpeg waits
        for another packet first, ten seconds."""
        size = -1
        while (now := self.path.stat().st_size if self.path.exists() else 0) != size:
            size = now
            await asyncio.sleep(QUIET_FOR)
        self.process.kill()
        await asyncio.to_thread(self.process.wait, 10)
        return self.path.read_bytes() if self.path.exists() else b""

    def complaint(self) -> str:
        """What it said of itself, after its end."""
        return self.process.stderr.read().decode(errors="replace").strip()[-400:] if self.process.stderr else ""


def play_command(state: GroupState, path: Path) -> list[str]:
    """What plays a WAV file into the group, in real time, in packets that fit: it has no way to ask for that itself."""
    group, size = state.group, min(PACKET_SIZE, state.largest_payload or PACKET_SIZE)
    reading, audio_format = open_wav(path)
    reading.close()
    argv = [player_program("ffmpeg"), "-v", "error", "-re", "-i", str(path), "-c:a", "pcm_s16be", "-f", "rtp"]
    argv += ["-payload_type", str(audio_format.payload_type), "-sdp_file", str(path.with_suffix(".sent.sdp"))]
    return [*argv, f"rtp://{group.address}:{group.port}?pkt_size={size}"]


async def play(player: Player, command: list[str]) -> None:
    """Runs it on a participant's host, to its end."""
    process = player.host.popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, said = await asyncio.to_thread(process.communicate)
    if process.returncode:
        raise StepError(f"{player.user}'s {command[0]} failed: {said.decode(errors='replace').strip()[-400:]}")


def samples_of(path: Path) -> bytes:
    """Of a WAV file."""
    with wave.open(str(path), "rb") as file:
        return file.readframes(file.getnframes())
