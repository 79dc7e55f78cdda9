"""Step `refuse`: who may not, doesn't; and what she sees of the wire."""

from __future__ import annotations

import asyncio
import json
import time

from mcsa.audio.format import AudioFormat
from mcsa.audio.wav import tone, write_wav
from mcsa.authority import CertificationAuthority
from mcsa.demo.convene_and_join import AUDIO_PORT
from mcsa.demo.stage import OUTSIDER, Player, Stage
from mcsa.demo.telling import StepError, Telling
from mcsa.domain.processes import INFRASTRUCTURE
from mcsa.errors import Refused
from mcsa.key_files import save_credentials
from mcsa.laboratory.capture import Capture
from mcsa.laboratory.packets import classify, count_kinds, parse_packet, parse_pcap
from mcsa.shell.multicast import ESP_PORT, GroupSocket
from mcsa.subjects import AUTHORIZER, MSM

LISTEN_FOR = 3.0  # seconds
LEAST_DATAGRAMS = 100


async def refuse(stage: Stage, tell: Telling) -> None:
    """A user that is not on the list, a host of another authority, a listener without keys."""
    mallory = await stage.add_player(OUTSIDER, OUTSIDER)
    del stage.players[OUTSIDER]
    await _user_is_refused(stage, tell, mallory)
    await _foreign_host_is_refused(stage, tell)
    if stage.laboratory.kind == "loopback":
        tell.say("not shown on loopback: what a host without keys sees on the wire")
    else:
        await _listener_sees_ciphertext(stage, tell, mallory)


async def _user_is_refused(stage: Stage, tell: Telling, mallory: Player) -> None:
    tell.say("mallory has a valid host certificate, valid broker credentials, and is not on the list")
    try:
        await mallory.connection.join(stage.conference_id)
    except Refused as refused:
        tell.say(f"the Authorizer refuses: {refused.code}, rule '{refused.rule}': {refused.sentence}")
        stage.figures["refused_by_rule"] = refused.rule
        if refused.code != "not-allowed":
            raise StepError(f"refused by '{refused.code}', and not by a rule of the Authorizer") from None
        return
    raise StepError("mallory was let in")


async def _foreign_host_is_refused(stage: Stage, tell: Telling) -> None:
    """A host's certificate of another authority is unauthentic: it gets no answer, and is counted."""
    foreign = CertificationAuthority.create(stage.files.domain, time.time())
    path = stage.folder / "foreign-host.pem"
    save_credentials(path, foreign.issue("host", OUTSIDER, time.time()))
    before = await _counted(stage)
    arguments = [
        *("--bus", stage.processes.broker.url),
        *("--credentials", str(path)),
        *("--nkey", str(stage.files.nkey_path(MSM, OUTSIDER))),
        *("--authorizer", f"spiffe://{stage.files.domain}/authorizer/main"),
        *("--conference", stage.conference_id.hex()),
    ]
    host = stage.laboratory[OUTSIDER]
    answered = json.loads(await stage.output(host, "mcsa.demo.foreign_host", *arguments))["answered"]
    counted = await _counted(stage) - before
    tell.say(f"a host whose certificate is another authority's gets no answer; the Authorizer counts it ({counted})")
    if answered or counted < 1:
        raise StepError("the foreign host was answered, or not noticed")


async def _counted(stage: Stage) -> int:
    arguments = ["--bus", stage.processes.broker.url, "--nkey", str(stage.files.folder / "operator.nkey")]
    host = stage.laboratory[INFRASTRUCTURE]
    statistics = json.loads(await stage.output(host, "mcsa.demo.statistics", *arguments, "--service", AUTHORIZER))
    return int(statistics.get("rejected.certificate", 0))


async def _listener_sees_ciphertext(stage: Stage, tell: Telling, mallory: Player) -> None:
    """She joins the multicast by IGMP, which nobody can forbid, while alice plays a tone."""
    addresses = [group.address for group in stage.coordinator.joined.state.groups]
    with mallory.host.inside():
        sockets = [GroupSocket(address, ESP_PORT, mallory.host.address_for(address)) for address in addresses]
    for address in addresses:
        await asyncio.to_thread(stage.laboratory.await_membership, mallory.host, address)
    capture = Capture(mallory.host, stage.folder / "mallory.pcap", stage.processes.broker.port)
    audio_format = AudioFormat(48_000, 1)
    sound = tone(audio_format, LISTEN_FOR)
    write_wav(stage.folder / "noise.wav", audio_format, sound)
    socket = str(stage.coordinator.joined.socket("audio"))
    playing = ["--socket", socket, "--port", str(AUDIO_PORT), str(stage.folder / "noise.wav")]
    await stage.output(stage.coordinator.host, "mcsa.audio", "send", *playing)
    capture.stop()
    for each in sockets:
        each.close()
    _tell_what_she_saw(stage, tell, addresses, sound)


def _tell_what_she_saw(stage: Stage, tell: Telling, addresses: list[str], sound: bytes) -> None:
    port = stage.processes.broker.port
    frames = [frame for _, frame in parse_pcap((stage.folder / "mallory.pcap").read_bytes())]
    to_groups = [frame for frame in frames if _destination(frame) in addresses]
    kinds = count_kinds(to_groups, port)
    others = count_kinds((frame for frame in frames if _destination(frame) not in addresses), port)
    plaintext = sum(sound[start : start + 64] in frame for frame in to_groups for start in (4_000, 20_000, 60_000))
    membership = "MLD" if stage.options.ipv6 else "IGMP"
    tell.say(f"mallory joins the groups by {membership} and listens: {len(to_groups)} datagrams to group addresses")
    tell.say(f"  of these: {_told(kinds)}; with a piece of the sound in the clear: {plaintext}")
    tell.say(f"  everything else that she sees: {_told(others)}")
    stage.figures["mallory_saw"] = {"groups": kinds, "else": others}
    esp = sum(classify(frame, port) in ("esp-udp", "esp") for frame in to_groups)
    igmp = kinds.get("igmp", 0)  # reports of hosts go to 224.0.0.22; group-specific queries to the group itself
    if esp < LEAST_DATAGRAMS or esp + igmp != len(to_groups) or plaintext:
        raise StepError(f"of {len(to_groups)} datagrams {esp} are ESP; all should be, at least {LEAST_DATAGRAMS}")


def _destination(frame: bytes) -> str:
    packet = parse_packet(frame)
    return "" if packet is None else packet.destination


def _told(kinds: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "nothing"
