"""Moments and repetitions as people write them, and as they read them."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta

from mcsa.errors import Refused, Rejected
from mcsa.sap.times import parse_repeat
from mcsa.v1.types_pb2 import RepeatTimes

MOMENT_HELP = 'When it begins, as announced: "14:00", "2026-11-25T14:00" or "+90m"; now, unless told.'
REPEAT_HELP = 'It is repeated: interval and duration, as "7d 1h", and offsets from the start, as "7d 1h 0 25h".'
_AHEAD = re.compile(r"\+([0-9]{1,6})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_moment(text: str, now: float) -> int:
    """Seconds since 1970; 0 for "". A time of the day is the next one of this machine's clock. `Refused("moment")`."""
    if not text:
        return 0
    present = datetime.fromtimestamp(now).astimezone()
    ahead = _AHEAD.fullmatch(text)
    try:
        if ahead is not None:
            return int((present + timedelta(**{_UNITS[ahead[2]]: int(ahead[1])})).timestamp())
        if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}", text, re.ASCII):
            hour, minute = (int(part) for part in text.split(":"))
            today = present.replace(hour=hour, minute=minute, second=0, microsecond=0)
            return int((today if today >= present else today + timedelta(days=1)).timestamp())
        return int(datetime.fromisoformat(text).astimezone().timestamp())
    except (ValueError, OverflowError):
        sentence = f"'{text}' is no moment: write 14:00, 2026-11-25T14:00 or +90m"
        raise Refused("moment", "format", sentence) from None


def check_moment(text: str) -> None:
    """`Refused("moment")` for what is none, whenever now is."""
    parse_moment(text, time.time())


def parse_repeats(texts: list[str] | None) -> list[RepeatTimes]:
    """`Refused("moment")`."""
    found = []
    for text in texts or ():
        try:
            repeat = parse_repeat(text if len(text.split()) > 2 else f"{text} 0")
        except Rejected:
            sentence = f"'{text}' is no repetition: write interval and duration, as '7d 1h'"
            raise Refused("moment", "repetition", sentence) from None
        found.append(RepeatTimes(interval_s=repeat.interval, duration_s=repeat.duration, offsets_s=repeat.offsets))
    return found


def show_moment(seconds: int, now: float) -> str:
    """By this machine's clock: "14:00", "Wed 2 Dec 14:00", with the year where it is another."""
    moment, present = datetime.fromtimestamp(seconds), datetime.fromtimestamp(now)
    if moment.date() == present.date():
        return f"{moment:%H:%M}"
    return f"{moment:%a} {moment.day} {moment:%b %H:%M}" if moment.year == present.year else f"{moment:%d %b %Y %H:%M}"


def show_duration(seconds: float) -> str:
    """ "4:10", "2 h 04", "3 d"; "0:00" where it is over."""
    whole = max(0, int(seconds))
    if whole < 3_600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 2 * 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60:02}"
    return f"{whole // 86_400} d"
