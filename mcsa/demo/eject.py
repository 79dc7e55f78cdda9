"""Step `eject`: the Coordinator throws one out, whose MSM keeps every key and obeys nothing; nobody else notices."""

from __future__ import annotations

import asyncio
import time

from mcsa.audio.format import AudioFormat
from mcsa.audio.wav import tone, write_wav
from mcsa.demo.hostile import BROKEN_INTO, KEPT_OUT
from mcsa.demo.listening import AudioListener, same_samples
from mcsa.demo.stage import Player, Stage, until
from mcsa.demo.telling import StepError, Telling
from mcsa.v1.msm_pb2 import GroupState

PLAY_FOR = 5.0  # seconds, in real time
EJECT_AFTER = 1.5  # seconds of sound
LINE = "She is gone; this line is under the new key."


async def eject(stage: Stage, tell: Telling) -> None:
    """Group rekey, conference rekey, while sound flows."""
    victim, staying = stage.victim, stage.staying
    path = stage.folder / "eject.wav"
    audio_format = AudioFormat(48_000, 1)
    write_wav(path, audio_format, tone(audio_format, PLAY_FOR))
    await asyncio.sleep(stage.options.heard_after)  # or they would hear the end of what was played before
    listeners = [await AudioListener.begin(stage, player, "eject") for player in staying[1:]]
    playing = asyncio.create_task(AudioListener.play(stage, stage.coordinator, path))
    tell.say(f"alice plays {PLAY_FOR:g} s of sound; {victim.user}'s MSM keeps every key and ignores every instruction")
    await asyncio.sleep(EJECT_AFTER)
    before = await _attempts(stage)
    old_key = stage.coordinator.joined.state.key_epoch
    commanded_at = time.time()
    epochs = await stage.coordinator.joined.eject(stage.user_id(victim.user), "demonstration")
    tell.say(f"alice ejects {victim.user}: the Authorizer answers after {_ms(time.time() - commanded_at)}")
    await _switched(stage, tell, epochs, commanded_at)
    await _rekeyed(stage, tell, old_key, commanded_at)
    await stage.coordinator.joined.send(LINE)

    async def heard() -> bool:
        return all(LINE in player.heard for player in staying[1:])

    await until(heard, 10.0, "that those who stay hear the line under the new key")
    await _nothing_lost(stage, tell, listeners, await playing, path)
    await _kept_out(stage, tell, before)


async def _switched(stage: Stage, tell: Telling, epochs: list[int], commanded_at: float) -> None:
    """From the command to the last sender that switched; in a protocol of subgroups only the victim's changes keys."""
    switched_at = 0.0
    shared = {group.group.group_id for group in (await stage.groups(stage.victim)).values()}

    async def groups_of(player: Player) -> list[GroupState]:
        return [group for group in (await stage.groups(player)).values() if group.group.group_id in shared]

    for player in stage.staying:

        async def on_new_epoch(player: Player = player) -> bool:
            groups = await groups_of(player)
            return all(group.epoch >= min(epochs) and group.switched_ms / 1000 >= commanded_at for group in groups)

        await until(on_new_epoch, 5.0, f"that {player.user}'s host sends under the new epoch")
        switched_at = max([switched_at, *(group.switched_ms / 1000 for group in await groups_of(player))])
    stage.figures["eject_to_last_switch_ms"] = round((switched_at - commanded_at) * 1000, 1)
    tell.say(f"group rekey: from the command to the last sender that switched: {_ms(switched_at - commanded_at)}")


async def _rekeyed(stage: Stage, tell: Telling, old_epoch: int, commanded_at: float) -> None:
    async def new_key() -> bool:
        states = [player.joined.state for player in stage.staying]
        return all(state.state == "active" and state.key_epoch > old_epoch for state in states)

    await until(new_key, 15.0, "a conference key for those who stay")
    state = stage.coordinator.joined.state
    seconds = time.time() - commanded_at
    stage.figures["eject_to_key_ms"] = round(seconds * 1000, 1)
    names = ", ".join(player.user for player in stage.staying)
    tell.say(
        f"conference rekey: {names} hold key {state.key_fingerprint}, epoch {state.key_epoch}, after {_ms(seconds)}"
    )
    if stage.user_id(stage.victim.user) in state.participants:
        raise StepError(f"{stage.victim.user} is in the new roster")


async def _nothing_lost(stage: Stage, tell: Telling, listeners: list[AudioListener], sent: int, path: object) -> None:
    for listener in listeners:
        stream = await listener.report()
        same = same_samples(stage.folder / "eject.wav", listener.path)
        tell.say(f"{listener.player.user} received {stream['received']} of {sent} packets, {stream['lost']} lost")
        stage.figures.setdefault("lost_during_ejection", {})[listener.player.user] = stream["lost"]
        if stream["lost"] or not same:
            raise StepError(f"{listener.player.user} lost packets during the ejection")


async def _attempts(stage: Stage) -> tuple[int, int]:
    groups = (await stage.groups(stage.victim)).values()
    return (
        sum(group.packets.get(KEPT_OUT, 0) for group in groups),
        sum(group.packets.get(BROKEN_INTO, 0) for group in groups),
    )


async def _kept_out(stage: Stage, tell: Telling, before: tuple[int, int]) -> None:
    victim = stage.victim
    kept_out, broken_into = (after - earlier for after, earlier in zip(await _attempts(stage), before, strict=True))
    groups = await stage.groups(victim)
    kept = ", ".join(f"{name} up to epoch {group.epoch}" for name, group in groups.items())
    tell.say(f"{victim.user} still listens, with every key she ever had ({kept}):")
    tell.say(f"  packets of the new epoch that she tried all of them on: {kept_out}; opened: {broken_into}")
    stage.figures["ejected_opened"] = broken_into
    if kept_out == 0 or broken_into or LINE in victim.heard:
        raise StepError(f"{victim.user} opened {broken_into} of {kept_out + broken_into} packets")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
