"""`mcsa conference`: what a participant does. The conference is in the CSM: commands return."""

from __future__ import annotations

import asyncio
import json as json_format
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from mcsa.cli.moments import MOMENT_HELP, REPEAT_HELP, check_moment, parse_moment, parse_repeats
from mcsa.cli.schemes import CkgdsOffered, Gkm, Policy, SourceAuthentication, asked_policy
from mcsa.cli.showing import (
    HostOption,
    JsonOption,
    PassphraseOption,
    UserOption,
    complaints,
    out,
    plain,
    run,
    short,
    show_json,
    show_pairs,
    show_table,
    visible,
)
from mcsa.cli.usage import check_title, check_user_name, checked, each, usage
from mcsa.errors import Refused
from mcsa.sdk.conference import Conference, Connection, Said, connect
from mcsa.v1.csm_pb2 import ConferenceState
from mcsa.v1.msm_pb2 import Session
from mcsa.v1.types_pb2 import GroupDescription

app = typer.Typer(help="Hold conferences.", no_args_is_help=True)

LONGEST_WAIT = 4e6  # seconds: what is left of 32 bits of milliseconds; 46 days

WhichArgument = Annotated[str, typer.Argument(help="Title, or the beginning of the id.")]


@app.command()
def start(
    title: Annotated[str, typer.Argument(help="For people.", callback=checked(check_title))],
    accept: Annotated[
        list[str] | None,
        typer.Option(
            "--accept", "-a", help="User that may join; give it several times.", callback=checked(each(check_user_name))
        ),
    ] = None,
    accept_sender: Annotated[
        list[str] | None,
        typer.Option(
            help="User that may send to the media groups without joining; give it several times.",
            callback=checked(each(check_user_name)),
        ),
    ] = None,
    user: UserOption = None,
    host: HostOption = None,
    passphrase: PassphraseOption = "",
    audio: Annotated[int, typer.Option(min=0, max=65_535, help="Port of an audio group; 0 for none.")] = 0,
    audio_address: Annotated[
        str, typer.Option(help="Its multicast address, and so its network; the Authorizer gives one unless told.")
    ] = "",
    wait: Annotated[
        float, typer.Option(min=0, max=LONGEST_WAIT, help="Seconds for others to join before the conference-call.")
    ] = 60.0,
    gkm: Gkm = "",
    source_authentication: SourceAuthentication = "",
    policy: Policy = None,
    ckgds: CkgdsOffered = None,
    open_to_all: Annotated[bool, typer.Option("--open", help="Any verifiable user may join.")] = False,
    one_sender: Annotated[
        bool, typer.Option("--one-sender", help="The audio group is source-specific: this host alone sends.")
    ] = False,
    begins: Annotated[str, typer.Option("--from", help=MOMENT_HELP, callback=checked(check_moment))] = "",
    until: Annotated[
        str, typer.Option("--until", help="When it ends, as announced; likewise.", callback=checked(check_moment))
    ] = "",
    every: Annotated[
        list[str] | None, typer.Option("--every", help=REPEAT_HELP, callback=checked(parse_repeats))
    ] = None,
    json: JsonOption = False,
) -> None:
    """Convene a conference. The call goes out when all accepted users have joined, at the latest after --wait, or when
    it begins by --from."""
    if not accept and not open_to_all:
        raise typer.BadParameter("say who may join by --accept, or --open")
    if audio_address and not audio:
        raise typer.BadParameter("--audio-address is about the audio group: give it a port by --audio")
    if one_sender and not audio:
        raise typer.BadParameter("--one-sender is about the audio group: give it a port by --audio")
    with usage():
        group_policy = asked_policy(policy, gkm, source_authentication)
    now, repeats = time.time(), parse_repeats(every)
    start_at, end_at = parse_moment(begins, now), parse_moment(until, now)
    if end_at and end_at <= max(start_at, now):
        raise typer.BadParameter("it would end before it begins: say a later moment by --until")
    wait = max(wait, min(start_at - now, LONGEST_WAIT))

    async def work() -> ConferenceState:
        async with connect(host=host, user=user, passphrase=passphrase) as me:
            group = GroupDescription(
                name="audio",
                media="audio",
                format="96",
                address=audio_address,
                port=audio,
                one_sender=one_sender,
            )
            media = [group] if audio else []
            await _warn_of_namesakes(me, title)
            conference = await me.convene(
                title,
                acceptable_users=accept or (),
                acceptable_senders=accept_sender or (),
                media=media,
                wait=wait,
                open_to_all=open_to_all,
                ckgds=ckgds or (),
                policy=group_policy,
                start=start_at,
                end=end_at,
                repeats=repeats,
            )
            return conference.state

    _show(run(work()), json=json)


@app.command("list")
def list_conferences(host: HostOption = None, json: JsonOption = False) -> None:
    """List the conferences of this host's users."""
    states = run(_states(host))
    if json:
        show_json([plain(state) for state in states])
        return
    rows = [
        (
            state.conference_id.hex()[:12],
            state.title,
            state.state,
            short(state.user),
            len(state.participants),
            state.reason,
        )
        for state in states
    ]
    show_table(("id", "title", "state", "user", "participants", "reason"), rows, "no conference on this host")


@app.command()
def show(which: WhichArgument, user: UserOption = None, host: HostOption = None, json: JsonOption = False) -> None:
    """Show a conference: who holds the key, which groups, what became of it."""
    _show(run(_state(which, host, user)), json=json)


@app.command()
def join(
    which: WhichArgument,
    user: UserOption = None,
    host: HostOption = None,
    passphrase: PassphraseOption = "",
    json: JsonOption = False,
) -> None:
    """Join an announced conference."""

    async def work() -> ConferenceState:
        async with connect(host=host, user=user, passphrase=passphrase) as me:
            return (await me.join(which)).state

    _show(run(work()), json=json)


@app.command()
def call(
    which: WhichArgument, user: UserOption = None, host: HostOption = None, passphrase: PassphraseOption = ""
) -> None:
    """End the waiting period: the conference-call goes out now (Coordinator)."""

    async def work() -> None:
        async with connect(host=host, user=user, passphrase=passphrase) as me:
            conference = await _attach(me, which, host)
            await conference.call()
            await _await_key(conference)
            state = await conference.wait_for("active")
            out.print(f"conference key {state.key_fingerprint} is in use", markup=False)

    run(work())


@app.command()
def say(
    which: WhichArgument,
    text: Annotated[str, typer.Argument(help='What to say; "-" for the lines of standard input.')] = "-",
    user: UserOption = None,
    host: HostOption = None,
    passphrase: PassphraseOption = "",
    file: Annotated[Path | None, typer.Option(exists=True, help="Say the lines of a file.")] = None,
) -> None:
    """Say something, sealed under the conference key."""

    async def work() -> int:
        async with connect(host=host, user=user, passphrase=passphrase) as me:
            conference = await _attach(me, which, host)
            await _await_key(conference)
            said = 0
            for line in _lines(text, file):
                await conference.send(line)
                said += 1
            return said

    if run(work()) == 0:
        raise Refused("nothing", "text", "there was nothing to say: give a text, --file, or lines on standard input")


@app.command()
def listen(
    which: WhichArgument,
    user: UserOption = None,
    host: HostOption = None,
    passphrase: PassphraseOption = "",
    count: Annotated[int, typer.Option(min=0, help="End after so many messages; 0 for never.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="A line of JSON for each message.")] = False,
) -> None:
    """Print what the others say, until Ctrl-C or the end of the conference."""

    async def work() -> None:
        async with connect(host=host, user=user, passphrase=passphrase) as me:
            conference = await _attach(me, which, host)
            heard = 0
            async for message in conference:
                _print_message(message, conference.state.user, json=json)
                heard += 1
                if heard == count:
                    return
            _check_ended_well(conference.state)

    with suppress(KeyboardInterrupt):
        run(work())


@app.command()
def eject(
    which: WhichArgument,
    subject: Annotated[str, typer.Argument(help="The user to throw out.")],
    reason: Annotated[str, typer.Option(help="For people and the record.")] = "",
    ban: Annotated[bool, typer.Option("--ban", help="Also where nobody of that name is there: never let in.")] = False,
    user: UserOption = None,
    host: HostOption = None,
    passphrase: PassphraseOption = "",
) -> None:
    """Throw a user out (Coordinator)."""

    async def work() -> None:
        async with connect(host=host, user=user, passphrase=passphrase) as me:
            conference = await _attach(me, which, host)
            began_at = time.monotonic()
            await conference.eject(subject, reason, ban=ban)
            out.print(f"{subject} is out; group keys replaced after {time.monotonic() - began_at:.2f} s", markup=False)

    run(work())


@app.command()
def move(
    which: WhichArgument, user: UserOption = None, host: HostOption = None, passphrase: PassphraseOption = ""
) -> None:
    """Move a conference to other addresses (Coordinator): after a clash, which `show` and `mcsa sessions` tell.
    Everybody registers again there; who is heard is not interrupted for longer than that takes."""

    async def work() -> list[GroupDescription]:
        async with connect(host=host, user=user, passphrase=passphrase) as me:
            return await (await _attach(me, which, host)).move()

    moved = ", ".join(f"{group.name} {group.address}:{group.port}" for group in run(work()))
    out.print(f"moved to {moved}", markup=False)


@app.command()
def leave(
    which: WhichArgument, user: UserOption = None, host: HostOption = None, passphrase: PassphraseOption = ""
) -> None:
    """Leave a conference; with its Coordinator it ends. Tells where the record is."""

    async def work() -> Path:
        async with connect(host=host, user=user, passphrase=passphrase) as me:
            return await (await _attach(me, which, host)).leave()

    out.print(f"record: {run(work())}", markup=False)


# ---- inside


async def _warn_of_namesakes(me: Connection, title: str) -> None:
    own, sessions = me.user, list[Session]()  # who that is first: a key file may be missing
    with suppress(Refused):  # where no directory answers, others won't find it there either
        sessions = await me.sessions()
    for session in sessions:
        if session.verified and session.title == title:
            whose = f"another session is called '{title}', by {short(session.coordinator, own)}"
            complaints.print(f"{whose}: say which by the id, from now on", markup=False)
            return


async def _states(host: str | None) -> list[ConferenceState]:
    async with connect(host=host) as me:
        return await me.conferences()


async def _state(which: str, host: str | None, user: Path | None) -> ConferenceState:
    """The conference that is meant; where several users of this host are in it, the one of `user`."""
    states = [
        state
        for state in await _states(host)
        if state.title == which or state.conference_id.hex().startswith(which.lower())
    ]
    if user is not None:
        own = connect(host=host, user=user).user
        states = [state for state in states if state.user == own]
    live = [state for state in states if state.state not in ("closed", "failed")] or states
    if len({(state.conference_id, state.user) for state in live}) != 1:
        count = "no conference" if not live else "more than one conference"
        sentence = f"{count} of this host is called '{which}'; `mcsa conference list` shows them, --user says whose"
        raise Refused("unknown-conference", "participation", sentence)
    return live[0]


async def _attach(me: Connection, which: str, host: str | None) -> Conference:
    own = me.user
    states = [
        state
        for state in await me.conferences()
        if state.user == own and (state.title == which or state.conference_id.hex().startswith(which.lower()))
    ]
    live = [state for state in states if state.state not in ("closed", "failed")] or states[-1:]
    if len(live) != 1:
        count = "in no conference" if not live else "in more than one conference"
        sentence = f"{short(own)} is {count} called '{which}' on this host; `mcsa conference list` shows them"
        raise Refused("unknown-conference", "participation", sentence)
    return await me.attach(live[0].conference_id)


def _print_message(message: Said, own: str, *, json: bool) -> None:
    if json:
        value = {"user": message.user, "text": message.text, "key_epoch": message.key_epoch}
        typer.echo(json_format.dumps(value, ensure_ascii=False))
    else:
        out.print(f"{short(message.user, own)}: {visible(message.text)}", markup=False)


def _check_ended_well(state: ConferenceState) -> None:
    """`Refused("conference-failed")` where it has ended for this user alone, or couldn't go on."""
    if state.state == "failed":
        sentence = f"the conference has ended here: {state.reason or 'it failed'}"
        raise Refused("conference-failed", "participation", sentence)
    complaints.print(f"the conference has ended. {state.reason}".strip(), markup=False)


async def _await_key(conference: Conference) -> None:
    waiting = asyncio.create_task(conference.key())
    done, _ = await asyncio.wait([waiting], timeout=0.5)
    if not done:
        with complaints.status("waiting for the conference key"):
            await waiting
    waiting.result()


def _lines(text: str, file: Path | None) -> list[str]:
    if file is not None:
        return [line for line in file.read_text().splitlines() if line]
    return [line.rstrip("\n") for line in sys.stdin if line.strip()] if text == "-" else [text]


def _show(state: ConferenceState, *, json: bool) -> None:
    if json:
        show_json(plain(state))
        return
    rows = [
        ("title", state.title),
        ("id", state.conference_id.hex()),
        ("state", f"{state.state}{': ' + state.reason if state.reason else ''}"),
        ("you are", short(state.user)),
        ("Coordinator", short(state.coordinator, state.user)),
        ("participants", ", ".join(short(user, state.user) for user in state.participants) or "none yet"),
        (
            "conference key",
            f"{state.key_fingerprint}, epoch {state.key_epoch}, by {state.ckgds}" if state.ckgds else "none yet",
        ),
        *((f"group {group.name}", f"{group.address}:{group.port}") for group in state.groups),
        *((f"socket {name}", path) for name, path in sorted(state.sockets.items())),
        ("thrown out", ", ".join(short(user, state.user) for user in state.ejected)),
        ("silent", ", ".join(short(user, state.user) for user in state.absent)),
        ("clash", f"{state.clash}; `mcsa conference move` ends it" if state.clash else ""),
        ("record", state.record_path),
    ]
    show_pairs(rows)
