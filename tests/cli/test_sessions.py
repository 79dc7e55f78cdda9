"""`mcsa sessions`: what people see of what others announce."""

from __future__ import annotations

import io
import json
import time
from datetime import datetime

import pytest
from rich.console import Console

from mcsa.cli.moments import parse_moment, parse_repeats, show_duration, show_moment
from mcsa.cli.sessions import cells, json_line, line_of, table_of, when
from mcsa.cli.watching import SHOWN_FOR, Change, Watched, Watching
from mcsa.errors import Refused
from mcsa.sap.announcement import parse_announcement
from mcsa.v1.msm_pb2 import Session
from tests.sap.parts import described, foreign
from tests.world import World

NOON = datetime(2026, 11, 25, 12).timestamp()


def heard(sdp: bytes, source: str = "198.51.100.2", *, verified: bool = False) -> Session:
    session = parse_announcement(sdp, NOON)
    session.announcement.source = source
    session.announcement.expires_ms = round((NOON + 250) * 1000)
    session.announcement.scopes.append("site")
    session.verified, session.remark = verified, "" if verified else "not one of ours"
    return session


def whats(changes: list[Change]) -> list[tuple[str, str]]:
    return [(change.what, change.session.title) for change in changes]


def test_what_comes_changes_and_goes_is_noticed(world: World):
    watching, ours = Watching(), heard(described(world), verified=True)
    film = heard(foreign("a film"))
    assert whats(watching.look([film, ours], NOON)) == [("new", "a film"), ("new", "Budget meeting")]
    assert [(one.what, one.session.title) for one in watching.rows(NOON)] == [("", "Budget meeting"), ("", "a film")]
    assert whats(watching.look([film, ours], NOON + 1)) == []
    second = heard(foreign("another cut", version=2))
    elsewhere = heard(foreign("a film"), source="198.51.100.3")  # the same text of another is another session
    assert whats(watching.look([second, ours, elsewhere], NOON + 2)) == [("changed", "another cut"), ("new", "a film")]
    assert whats(watching.look([elsewhere, second], NOON + 3)) == [("ended", "Budget meeting")]
    assert {one.what for one in watching.rows(NOON + 4)} == {"changed", "new", "ended"}
    assert {one.what for one in watching.rows(NOON + 2 + SHOWN_FOR)} == {"", "ended"}
    assert len(watching.rows(NOON + 3 + SHOWN_FOR)) == 2
    assert whats(watching.look([ours], NOON + 20))[0] == ("new", "Budget meeting")


def test_a_session_that_is_no_longer_verified_has_changed(world: World):
    watching, sdp = Watching(), described(world)
    watching.look([heard(sdp, verified=True)], NOON)
    assert whats(watching.look([heard(sdp)], NOON + 1)) == [("changed", "Budget meeting")]
    clashing = heard(sdp)
    clashing.clashes.append("239.255.77.1: a film from 198.51.100.3")
    (change,) = watching.look([clashing], NOON + 2)
    assert "clashes: 239.255.77.1" in cells(change.session, NOON)[-1]


def test_lines_for_a_pipe_are_one_each_and_steer_no_terminal():
    session = heard(foreign("film\x1b[2K \x9bK [bold]"))
    line = line_of(Change("new", session), NOON)
    assert line.startswith(time.strftime("%H:%M:%S", time.localtime(NOON)) + " + new ")
    assert "\x1b" not in line and "\x9b" not in line and "\n" not in line and "[bold]" in line
    told = json.loads(json_line(Change("ended", session), NOON))
    assert (told["event"], told["session"]["announcement"]["scopes"]) == ("ended", ["site"])
    assert "\n" not in json_line(Change("ended", session), NOON)


def test_the_table_shows_marks_scope_times_and_countdown(world: World):
    watching = Watching()
    watching.look([heard(described(world), verified=True), heard(foreign("a film"))], NOON)
    watching.look([heard(foreign("[red]new[/red]\x1b[1A", session=8), "192.0.2.7")], NOON + 1)
    shown = Console(file=io.StringIO(), width=220, force_terminal=False)
    shown.print(table_of(watching.rows(NOON + 2), NOON + 2))
    assert isinstance(shown.file, io.StringIO)
    text = shown.file.getvalue()
    assert "[red]new[/red]" in text and "\x1b" not in text
    assert "- " in text and "+ " in text and "4:08" in text and "site" in text and "3 sessions" in text


def test_when_it_takes_place():
    def of(lines: str) -> str:
        return when(heard(foreign().replace(b"t=0 0", lines.encode())), NOON)

    ntp = int(NOON) + 2_208_988_800
    assert of("t=0 0") == "any time"
    assert of(f"t={ntp - 60} {ntp + 3600}") == "now until 13:00"
    assert of(f"t={ntp - 60} 0") == "now"
    assert of(f"t={ntp + 3600} {ntp + 7200}") == "from 13:00 until 14:00"
    assert of(f"t={ntp - 60} {ntp - 1}") == "is over"
    repeated = of(f"t={ntp - 86_400 * 7 + 60} {ntp + 86_400 * 700}\r\nr=7d 1h 0")
    assert repeated == "from 12:01 until 13:01, repeated"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("14:00", NOON + 7_200), ("11:00", NOON + 23 * 3_600), ("+90m", NOON + 5_400), ("+2d", NOON + 172_800)],
)
def test_moments_are_written_as_people_do(text: str, seconds: float):
    assert parse_moment(text, NOON) == int(seconds)


def test_moments_with_a_date():
    assert parse_moment("2026-11-25T14:30", NOON) == int(NOON) + 9_000
    assert parse_moment("2026-11-25T14:30+00:00", NOON) == 1_795_617_000
    for text in ("soon", "25:00", "+9w", "2026-13-01T00:00"):
        with pytest.raises(Refused) as caught:
            parse_moment(text, NOON)
        assert caught.value.code == "moment"


def test_repetitions_are_written_as_in_sdp():
    (weekly, twice) = parse_repeats(["7d 1h", "1d 30m 0 12h"])
    assert (weekly.interval_s, weekly.duration_s, list(weekly.offsets_s)) == (604_800, 3_600, [0])
    assert list(twice.offsets_s) == [0, 43_200]
    assert parse_repeats(None) == []
    with pytest.raises(Refused):
        parse_repeats(["weekly"])


def test_durations_and_moments_are_short():
    assert [show_duration(seconds) for seconds in (-1, 9, 250, 7_440, 3 * 86_400)] == [
        "0:00",
        "0:09",
        "4:10",
        "2 h 04",
        "3 d",
    ]
    assert show_moment(int(NOON) + 60, NOON) == "12:01"
    assert show_moment(int(NOON) + 86_400, NOON) == "Thu 26 Nov 12:00"
    assert show_moment(int(NOON) + 86_400 * 365, NOON).endswith("Nov 2027 12:00")


def test_on_a_narrow_terminal_no_address_is_broken(world: World):
    session = heard(described(world), verified=True)
    console = Console(file=io.StringIO(), width=80)
    console.print(table_of(_rows(session), NOON))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for group in session.groups:
        assert f"{group.name} {group.address}:{group.port}" in shown


def _rows(session: Session) -> list[Watched]:
    watching = Watching()
    watching.look([session], NOON)
    return watching.rows(NOON)
