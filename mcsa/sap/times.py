"""When a session takes place: t=, r= and z= lines, RFC 8866 sections 5.9 to 5.11.

Moments are seconds since 1970 here and since 1900 in the lines; 0 stays 0 and means none: a session without a start is
always there, one without an end has none known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcsa.errors import Rejected

NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970, RFC 8866, section 5.9
LATEST = 1 << 40  # seconds since 1900 that we take for a time
PERIODS_AT_ONCE = 16  # t= lines of one description, r= lines of one of them, offsets of one of those, pairs of z=
LARGEST_ADJUSTMENT = 86_400  # seconds; summer time is 3,600
_LOOKED_AT = 64  # repetitions around a moment: with summer time enough for any that are two minutes apart
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_TYPED = re.compile(r"(-?)([0-9]{1,16})([dhms]?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Repeat:
    """An r= line: each `interval` seconds, for `duration` seconds, at these `offsets` from the start."""

    interval: int
    duration: int
    offsets: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Period:
    """A t= line with its r= lines: from `start` to `end`, whole or repeatedly."""

    start: int = 0
    end: int = 0
    repeats: tuple[Repeat, ...] = ()


@dataclass(frozen=True, slots=True)
class Adjustment:
    """One pair of a z= line: repetitions from `at` on are `by` seconds later (summer time)."""

    at: int
    by: int


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Once that the session takes place; `end` is 0 where none is known."""

    start: int
    end: int


# ---- lines


def parse_period(value: str) -> Period:
    """Of "t=" what comes behind; `Rejected("sdp")`."""
    try:
        start, end = (int(part) for part in value.split())
    except ValueError:
        raise Rejected("sdp", f"t={value[:40]}") from None
    if not 0 <= start < LATEST or not 0 <= end < LATEST:
        raise Rejected("sdp", f"t={value[:40]}")
    return Period(_from_ntp(start), _from_ntp(end))


def parse_repeat(value: str) -> Repeat:
    """Likewise of "r="."""
    numbers = [_seconds(part, f"r={value[:40]}") for part in value.split()[: 3 + PERIODS_AT_ONCE]]
    if not 3 <= len(numbers) < 3 + PERIODS_AT_ONCE or numbers[0] <= 0 or min(numbers) < 0:
        raise Rejected("sdp", f"r={value[:40]}")
    return Repeat(numbers[0], numbers[1], tuple(numbers[2:]))


def parse_adjustments(value: str) -> list[Adjustment]:
    """Likewise of "z="."""
    parts = value.split()[: 2 * PERIODS_AT_ONCE + 1]
    if len(parts) % 2:
        raise Rejected("sdp", f"z={value[:40]}")
    found = []
    for at, by in zip(parts[::2], parts[1::2], strict=True):
        adjustment = Adjustment(_from_ntp(_seconds(at, f"z={value[:40]}")), _seconds(by, f"z={value[:40]}"))
        if abs(adjustment.by) > LARGEST_ADJUSTMENT:
            raise Rejected("sdp", f"z={value[:40]}")
        found.append(adjustment)
    return found


def format_period(period: Period) -> list[str]:
    """The lines, without line ends."""
    lines = [f"t={_to_ntp(period.start)} {_to_ntp(period.end)}"]
    for repeat in period.repeats:
        offsets = " ".join(_typed(offset) for offset in repeat.offsets)
        lines.append(f"r={_typed(repeat.interval)} {_typed(repeat.duration)} {offsets}")
    return lines


def format_adjustments(adjustments: Sequence[Adjustment]) -> list[str]:
    """A line, or none."""
    if not adjustments:
        return []
    return ["z=" + " ".join(f"{_to_ntp(each.at)} {_typed(each.by)}" for each in adjustments)]


# ---- what they say


def span(periods: Sequence[Period]) -> tuple[int, int]:
    """The first start and the last end; 0 where there is none."""
    starts, ends = [period.start for period in periods], [period.end for period in periods]
    return (min(starts) if all(starts) else 0) if starts else 0, (max(ends) if all(ends) else 0) if ends else 0


def next_occurrence(periods: Sequence[Period], adjustments: Sequence[Adjustment], now: float) -> Occurrence | None:
    """The one that goes on, or that comes next; None where the session is over, or says nothing of times."""
    found = [occurrence for period in periods for occurrence in _from(period, adjustments, now)]
    return min(found, key=lambda occurrence: occurrence.start, default=None)


def _from(period: Period, adjustments: Sequence[Adjustment], now: float) -> Iterator[Occurrence]:
    """Of each of its lines the first that isn't over."""
    if not period.start and not period.end:
        return
    if period.end and period.end <= now:
        return
    if not period.repeats:
        yield Occurrence(period.start, period.end)
        return
    reach = max((abs(each.by) for each in adjustments), default=0)
    for repeat in period.repeats:
        for offset in repeat.offsets:
            first = max(0, int((now - repeat.duration - reach - period.start - offset) // repeat.interval))
            for number in range(first, first + _LOOKED_AT):
                nominal = period.start + offset + number * repeat.interval
                start = nominal + _adjusted(adjustments, nominal)
                end = start + repeat.duration
                if end > now:
                    if not period.end or start < period.end:
                        yield Occurrence(start, min(end, period.end) if period.end else end)
                    break


def _adjusted(adjustments: Sequence[Adjustment], at: int) -> int:
    past = [each for each in adjustments if each.at <= at]
    return max(past, key=lambda each: each.at).by if past else 0


# ---- numbers


def _seconds(text: str, line: str) -> int:
    typed = _TYPED.fullmatch(text)
    if typed is None:
        raise Rejected("sdp", line)
    value = int(typed[2]) * _UNITS[typed[3]]
    if value >= LATEST:
        raise Rejected("sdp", line)
    return -value if typed[1] else value


def _typed(seconds: int) -> str:
    """As short as it goes: "7d", "1h", "-30m"."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return str(seconds)


def _to_ntp(seconds: int) -> int:
    return seconds + NTP_EPOCH if seconds else 0


def _from_ntp(seconds: int) -> int:
    return seconds - NTP_EPOCH if seconds > NTP_EPOCH else 0
