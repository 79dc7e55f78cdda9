"""Steps `convene` and `join`."""

from __future__ import annotations

import asyncio

from mcsa.demo.stage import Player, Stage, until
from mcsa.demo.telling import StepError, Telling
from mcsa.v1.types_pb2 import GroupDescription

TITLE = "Budget meeting"
AUDIO_PORT = 5004
WAIT = 3_600.0  # seconds: the demo's Coordinator ends the waiting period by hand


async def convene(stage: Stage, tell: Telling) -> None:
    """Initiator, first to fourth steps."""
    options, alice = stage.options, stage.coordinator
    acceptable = [stage.user_id(user) for user in options.user_names]
    tell.say(
        f"{alice.user} on {alice.host.name} asks her CSM for a conference '{TITLE}' with a control and an audio group"
    )
    policy = options.policy
    audio = GroupDescription(name="audio", media="audio", format="96", port=AUDIO_PORT, policy=policy)
    alice.conference = await alice.connection.convene(
        TITLE,
        acceptable_users=acceptable,
        media=[audio],
        wait=WAIT,
        expected=(),
        ckgds=[options.ckgds] if options.ckgds else (),
        policy=policy,
    )
    stage.conference_id = alice.conference.id
    state = alice.conference.state
    tell.say(f"MSM -> Authorizer: {len(state.groups)} groups created, keys by '{options.gkm_name}'")
    for group in state.groups:
        tell.say(f"  {group.name:8} {group.address}  port {group.port}")
    tell.say(f"acceptable users, told to the Authorizer only: {', '.join(options.user_names)}")
    tell.say(f"MSM -> SD: announced by SAP; conference {alice.conference.id.hex()[:16]}..., to come")


async def join(stage: Stage, tell: Telling) -> None:
    """Receiver, first to fourth steps."""
    for player in stage.receivers:
        await _join(stage, tell, player)
    if stage.laboratory.kind != "loopback":
        await _report_memberships(stage, tell)


async def _join(stage: Stage, tell: Telling, player: Player) -> None:
    async def seen() -> bool:
        sessions = await player.connection.sessions()
        return any(session.title == TITLE and session.verified for session in sessions)

    await until(seen, 10.0, f"that {player.user} sees '{TITLE}' in the session list")
    player.conference = await player.connection.join(TITLE)
    stage.figures.setdefault("users_joined", []).append(player.user)
    groups = await stage.groups(player)
    told = ", ".join(f"{name}: sender {group.sender_id}, epoch {group.epoch}" for name, group in groups.items())
    tell.say(f"{player.user} on {player.host.name} sees '{TITLE}', chooses it, joins  ({told})")
    if any(group.state != "member" for group in groups.values()):
        raise StepError(f"{player.user}'s host is not a member of every group")


async def _report_memberships(stage: Stage, tell: Telling) -> None:
    for player in stage.players.values():
        for group in (await stage.groups(player)).values():  # of a protocol of subgroups those that it is in
            await asyncio.to_thread(stage.laboratory.await_membership, player.host, group.group.address)
    tell.say("IGMPv3: the bridge has heard a report from every host for every group, and forwards only to those")
