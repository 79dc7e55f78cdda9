"""Steps `key` and `talk`."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from pathlib import Path

from mcsa.audio.format import AudioFormat
from mcsa.audio.wav import open_wav, tone, write_wav
from mcsa.demo import memory
from mcsa.demo.listening import AudioListener, same_samples
from mcsa.demo.options import OWN_LINES
from mcsa.demo.players import PlayerListener, play, play_command, samples_of
from mcsa.demo.stage import Stage, until
from mcsa.demo.telling import StepError, Telling
from mcsa.subjects import AUTHORIZER

TONE_FOR = 6.0  # seconds of the demo's own sound: five in real time, the rest faster


async def key(stage: Stage, tell: Telling) -> None:
    """Initiator, fifth to seventh steps; receiver, sixth."""
    began_at = time.monotonic()
    await stage.coordinator.joined.call()
    tell.say("alice ends the waiting period: her CSM sends the conference-call through the control group")
    for player in stage.players.values():
        await player.joined.key()
        state = await player.joined.wait_for("active")
        if state.state != "active":
            raise StepError(f"{player.user}'s conference {state.state}: {state.reason}")
        seconds = time.monotonic() - began_at
        tell.say(
            f"{player.user:6} holds conference key {state.key_fingerprint}, epoch {state.key_epoch} ({seconds:.2f} s)"
        )
    stage.figures["seconds_to_key"] = round(time.monotonic() - began_at, 3)
    states = [player.joined.state for player in stage.players.values()]
    if len({(state.key_epoch, state.key_fingerprint) for state in states}) != 1:
        raise StepError("they hold different keys")
    tell.say(f"made by '{states[0].ckgds}', confirmed and signed by all {len(states)}, activated by alice")
    await _authorizer_has_none(stage, tell)
    for player in stage.players.values():
        player.listening = asyncio.create_task(player.listen())


async def _authorizer_has_none(stage: Stage, tell: Telling) -> None:
    """Its memory is searched, byte by byte; the same search finds the key at a participant."""
    wanted = stage.coordinator.joined.reveal_key()
    services = stage.processes.services
    found_at_csm = await asyncio.to_thread(memory.holds, services[f"csm-{stage.coordinator.host.name}"].pid, wanted)
    if found_at_csm is None:
        tell.say("the Authorizer is never asked: the key scheme runs inside the control group")
        tell.say("(its memory can't be searched for the key here: that takes root on the machine)")
        return
    found_at_authorizer = await asyncio.to_thread(memory.holds, services[AUTHORIZER].pid, wanted)
    tell.say("the key is searched in the memory of processes: alice's CSM has it, the Authorizer does not")
    stage.figures["key_in_memory_of"] = {"csm": found_at_csm, "authorizer": bool(found_at_authorizer)}
    if not found_at_csm or found_at_authorizer:
        raise StepError(f"key found at alice's CSM: {found_at_csm}, at the Authorizer: {found_at_authorizer}")


async def talk(stage: Stage, tell: Telling) -> None:
    """Text sealed under the conference key inside ESP, and sound as RTP over the audio group."""
    await _text(stage, tell)
    await _sound(stage, tell)


async def _text(stage: Stage, tell: Telling) -> None:
    lines = _lines(stage.options.lines)
    for line in lines:
        await stage.coordinator.joined.send(line)

    async def heard() -> bool:
        return all(player.heard == lines for player in stage.receivers)

    seconds = await until(heard, 15.0, f"that all {len(lines)} lines arrive at all receivers in order")
    tell.say(f"alice says {len(lines)} lines; all receivers have read them after {seconds:.2f} s, for example:")
    for line in lines[:3]:
        tell.say(f"  {stage.receivers[0].user} hears alice: {line[:100]}")
    stage.figures["lines"] = len(lines)


def _lines(source: str) -> list[str]:
    if not source:
        return list(OWN_LINES)
    text = sys.stdin.read() if source == "-" else Path(source).read_text(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise StepError(f"there is no line of text in {source}")
    return lines


async def _sound(stage: Stage, tell: Telling) -> None:
    path = stage.options.audio
    if path is None:
        path = stage.folder / "tone.wav"
        audio_format = AudioFormat(48_000, 1)
        write_wav(path, audio_format, tone(audio_format, TONE_FOR))
    if stage.options.player:
        await _sound_by_player(stage, tell, path)
        return
    listeners = [await AudioListener.begin(stage, player, "talk") for player in stage.receivers]
    sent = await AudioListener.play(stage, stage.coordinator, path)
    for listener in listeners:
        stream = await listener.report()
        same = same_samples(path, listener.path)
        told = f"{stream['received']} of {sent} packets, {stream['lost']} lost"
        verdict = "bit for bit what alice sent" if same else "NOT what alice sent"
        tell.say(f"{listener.player.user} received {told}: {verdict}; kept as {listener.path}")
        if not same:
            raise StepError(f"{listener.player.user} did not receive the sound as it was sent")
    stage.figures["audio_packets"] = sent


async def _sound_by_player(stage: Stage, tell: Telling, path: Path) -> None:
    """The same by a program that knows nothing of MCSA, and addresses the group as anybody would."""
    reading, audio_format = open_wav(path)
    reading.close()
    tell.say(f"{stage.options.player} as it is, on all hosts; the group's address is routed to the MSM's TUN interface")
    listeners = []
    for player in stage.receivers:
        group = (await stage.groups(player))["audio"].group
        listeners.append(await PlayerListener.begin(stage, player, group, audio_format))
    tell.say(f"{listeners[0].player.user} runs  {listeners[0].command}")
    coordinator = stage.coordinator
    command = play_command((await stage.groups(coordinator))["audio"], path)
    tell.say(f"{coordinator.user} runs  {shlex.join(command)}")
    await play(coordinator, command)
    expected = samples_of(path)
    counted = {}
    for listener in listeners:
        user = listener.player.user
        same = await listener.samples() == expected
        counted[user] = dict((await stage.groups(listener.player))["audio"].packets)
        verdict = "bit for bit what alice played" if same else "NOT what alice played"
        tell.say(f"{user}'s {stage.options.player} recorded {len(expected)} bytes: {verdict}")
        if not same:
            said = f"packets {counted[user]}; ffmpeg said: {listener.complaint() or 'nothing'}"
            raise StepError(f"{user} did not record the sound as it was played; {said}")
    counted[coordinator.user] = dict((await stage.groups(coordinator))["audio"].packets)
    stage.figures["player"] = {"name": stage.options.player, "bytes": len(expected), "packets": counted}
