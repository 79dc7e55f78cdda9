"""Conferences whose packets pass through processes beside the MSM's."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from pathlib import Path

from mcsa.shell.local import connect
from mcsa.shell.run import BUG
from mcsa.v1.types_pb2 import GroupPolicy
from tests.domain.running import RunningDomain
from tests.domain.test_changing_networks import WITHIN, talk_and_sound_pass
from tests.domain.test_faults import _is_member

OPTIONS = {"address": "eth0", "packet_processes": 2}
_PEER = struct.Struct("iII")  # struct ucred, unix(7)


def process_of(domain: RunningDomain, user: str, group: str = "audio") -> int:
    """The one that this user's host has the group in."""
    with connect(domain.conferences[user].socket(group), socket.SOCK_SEQPACKET) as application:
        return int(_PEER.unpack(application.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[0])


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_conference_lives_there_as_in_the_msm_s_own_process(tmp_path: Path) -> None:
    """With keys of sources and the Authorizer's clock, which have to come there too; ejections as everywhere."""
    async with RunningDomain(tmp_path, ("alice", "bob", "carol"), msm_options=OPTIONS) as domain:
        await domain.gather(media=True, policy=GroupPolicy(source_authentication="tesla"))
        assert process_of(domain, "alice") != domain.processes.services["msm-alpha"].pid
        await talk_and_sound_pass(domain)
        counted = (await domain.groups("bob"))["audio"].packets
        assert counted["opened"] + counted["sent"] > 0
        before = domain.conferences["alice"].state.key_epoch
        await domain.conferences["alice"].eject(domain.id_of("carol"))
        await domain.keyed("alice", "bob", after=before)
        await talk_and_sound_pass(domain)


async def test_one_that_is_killed_takes_the_msm_with_it_and_a_killed_msm_takes_all_of_them(tmp_path: Path) -> None:
    """Either is started anew then, and the conference goes on."""
    async with RunningDomain(tmp_path, msm_options=OPTIONS) as domain:
        await domain.gather(media=True)
        service = domain.processes.services["msm-beta"]
        killed, others = process_of(domain, "bob"), {process_of(domain, "bob", "control")}
        os.kill(killed, signal.SIGKILL)
        assert service.process is not None
        assert await asyncio.to_thread(service.process.wait, WITHIN) == BUG
        assert f"packet process {killed} has ended" in service.written()
        await all_ended(domain, others)
        service.restart()
        await talk_again(domain)

        both = {process_of(domain, "bob"), process_of(domain, "bob", "control")}
        service.kill()
        await all_ended(domain, both)
        service.restart()
        await talk_again(domain)


async def all_ended(domain: RunningDomain, processes: set[int]) -> None:
    async def ended() -> bool:
        return not any(map(is_running, processes))

    await domain.until(ended, WITHIN)


async def talk_again(domain: RunningDomain) -> None:
    await domain.until(lambda: _is_member(domain, "bob"), 3 * WITHIN)
    await talk_and_sound_pass(domain)
