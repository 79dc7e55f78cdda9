"""`mcsa sessions`: what the directory has heard, once or as it changes."""

from __future__ import annotations

import asyncio
import json as json_format
import time
from contextlib import suppress
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mcsa.cli.moments import show_duration, show_moment
from mcsa.cli.showing import HostOption, JsonOption, out, plain, run, short, show_json, show_table, visible
from mcsa.cli.watching import Change, Watched, Watching
from mcsa.sdk.conference import Connection, connect
from mcsa.v1.msm_pb2 import Session

LOOK_EACH = 1.0  # seconds between two questions while watching
_STYLES = {"new": "bold green", "changed": "bold yellow", "ended": "dim strike"}
_SIGNS = {"new": "+", "changed": "~", "ended": "-"}
_COLUMNS = ("", "id", "title", "scope", "when", "coordinator", "groups", "heard till", "verified")

_UNBROKEN = ("id", "groups")  # on a narrow terminal, too: nobody can read half an address


def sessions(
    host: HostOption = None,
    json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, and show what changes, until Ctrl-C.")] = False,
    seconds: Annotated[float, typer.Option("--for", min=0, help="Watch for so many seconds only; 0 for ever.")] = 0.0,
) -> None:
    """List the sessions that the directory has heard. What nobody could verify is shown, and never joined."""
    if watch:
        with suppress(KeyboardInterrupt):
            run(_watch(host, seconds, json=json))
        return
    found = run(_list(host))
    if json:
        show_json([plain(session) for session in found])
        return
    now = time.time()
    rows = [cells(session, now) for session in found]
    show_table(_COLUMNS[1:], rows, "no session was heard yet", unbroken=_UNBROKEN)


async def _list(host: str | None) -> list[Session]:
    async with connect(host=host) as me:
        return await me.sessions()


async def _watch(host: str | None, seconds: float, *, json: bool) -> None:
    ends_at = time.monotonic() + seconds if seconds else None
    async with connect(host=host) as me:
        if out.is_terminal and not json:
            await _watch_table(me, ends_at)
        else:
            await _watch_lines(me, ends_at, json=json)


async def _watch_table(me: Connection, ends_at: float | None) -> None:
    watching = Watching()
    with Live(console=out, auto_refresh=False, screen=False) as live:
        while ends_at is None or time.monotonic() < ends_at:
            found, now = await me.sessions(), time.time()
            watching.look(found, now)
            live.update(table_of(watching.rows(now), now), refresh=True)
            await asyncio.sleep(LOOK_EACH)


async def _watch_lines(me: Connection, ends_at: float | None, *, json: bool) -> None:
    watching = Watching()
    while ends_at is None or time.monotonic() < ends_at:
        found, now = await me.sessions(), time.time()
        for change in watching.look(found, now):
            typer.echo(json_line(change, now) if json else line_of(change, now))
        await asyncio.sleep(LOOK_EACH)


# ---- how it looks


def cells(session: Session, now: float, separator: str = "\n") -> tuple[str, ...]:
    """Of one row, but its mark; groups with this between them."""
    verified = "yes" if session.verified else f"no: {session.remark}"
    if session.clashes:
        verified += f"; clashes: {', '.join(session.clashes)}"
    expires_ms = session.announcement.expires_ms
    return (
        session.conference_id.hex()[:12] or "-",
        session.title,
        ", ".join(session.announcement.scopes) or "-",
        when(session, now),
        short(session.coordinator, session.authorizer) or "-",
        separator.join(f"{group.name} {group.address}:{group.port}" for group in session.groups),
        show_duration(expires_ms / 1000 - now) if expires_ms else "-",
        verified,
    )


def when(session: Session, now: float) -> str:
    """When it takes place, as its announcer says: now, next, or not any more."""
    start, end = session.next_start_s, session.next_end_s
    if not start and not end:
        return "is over" if session.end_s and session.end_s <= now else "any time"
    till = f" until {show_moment(end, now)}" if end else ""
    text = f"now{till}" if start <= now else f"from {show_moment(start, now)}{till}"
    return f"{text}, repeated" if session.repeats else text


def table_of(watched: list[Watched], now: float) -> Table:
    """The live table."""
    table = Table(box=None, pad_edge=False, header_style="bold", caption=f"{len(watched)} sessions", expand=True)
    for column in _COLUMNS:
        table.add_column(column, overflow="fold", no_wrap=column in _UNBROKEN)
    for one in watched:
        mark = _SIGNS.get(one.what, "✓" if one.session.verified else "?")
        style = _STYLES.get(one.what, "" if one.session.verified else "dim")
        # as `Text`, since a string could have rich's markup in it
        table.add_row(mark, *(Text(visible(cell)) for cell in cells(one.session, now)), style=style)
    return table


def line_of(change: Change, now: float) -> str:
    """For a file or a pipe: one line for what has happened."""
    at = time.strftime("%H:%M:%S", time.localtime(now))
    said = "  ".join(visible(cell) for cell in cells(change.session, now, ", ")).replace("\n", " ")
    return f"{at} {_SIGNS[change.what]} {change.what:<7} {said}"


def json_line(change: Change, now: float) -> str:
    """Likewise for a program."""
    value = {"event": change.what, "at": round(now, 3), "session": plain(change.session)}
    return json_format.dumps(value, ensure_ascii=False)
