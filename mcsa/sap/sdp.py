"""Session descriptions, RFC 8866: strict out, liberal in.

Out: CRLF, the lines in the order of the RFC's grammar. In: LF alone, unknown attributes, unknown lines and lines out of
order are passed over; what makes a description useless (no version, no origin, no title, no media) is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mcsa.addresses import parse_address
from mcsa.errors import Rejected
from mcsa.sap.times import (
    PERIODS_AT_ONCE,
    Adjustment,
    Period,
    format_adjustments,
    format_period,
    parse_adjustments,
    parse_period,
    parse_repeat,
    span,
)

LARGEST = 1_000  # bytes out; RFC 2974, section 6: an announcement should be smaller than 1 kByte
LARGEST_HEARD = 2_048  # bytes in; others announce longer ones (PipeWire takes 2,047)
MEDIA_AT_ONCE = 16
OFFSETS_AT_ONCE = 32  # of all r= lines together
ADDRESSES_AT_ONCE = 64  # of one c= line that counts them ("239.1.1.1/8/3")
LARGEST_TTL = 255  # RFC 791, section 3.1

Attributes = list[tuple[str, str]]


@dataclass(slots=True)
class Media:
    """An m= line and what belongs to it. `address` and `ttl` are empty where the session's c= line holds; `addresses`
    says how many there are from that one on (layered encodings, RFC 8866 section 5.7)."""

    kind: str
    port: int
    protocol: str
    formats: str
    address: str = ""
    ttl: int = 0
    attributes: Attributes = field(default_factory=list)
    addresses: int = 1

    def attribute(self, name: str) -> str | None:
        """The first of that name."""
        return next((value for known, value in self.attributes if known == name), None)


@dataclass(slots=True)
class Sdp:
    """One description; `origin` is the o= line without "o="."""

    origin: str
    title: str
    periods: list[Period] = field(default_factory=list)
    attributes: Attributes = field(default_factory=list)
    media: list[Media] = field(default_factory=list)
    adjustments: list[Adjustment] = field(default_factory=list)

    @property
    def start(self) -> int:
        """Seconds since 1970 at which it first takes place; 0 where it says none."""
        return span(self.periods)[0]

    @property
    def end(self) -> int:
        """Seconds since 1970 after which it never takes place again; 0 where none is known."""
        return span(self.periods)[1]

    @property
    def session(self) -> tuple[str, ...]:
        """What names the session: o= without its version (RFC 8866, section 5.2)."""
        parts = self.origin.split()
        return (*parts[:2], *parts[3:])

    @property
    def version(self) -> int:
        """Of the description, by its o= line; 0 where that says none."""
        parts = self.origin.split()
        return int(parts[2]) if len(parts) > 2 and parts[2].isascii() and parts[2].isdecimal() else 0

    def addresses(self) -> set[str]:
        """All multicast addresses of its media."""
        found = set()
        for media in self.media:
            first = parse_address(media.address)
            if first.is_multicast:
                last = min(int(first) + media.addresses, 1 << first.max_prefixlen)  # there are no more than that
                found |= {str(first + step) for step in range(last - int(first))}
        return found

    def attribute(self, name: str) -> str | None:
        """The first of that name at session level."""
        return next((value for known, value in self.attributes if known == name), None)


def format_sdp(sdp: Sdp) -> bytes:
    """As RFC 8866, section 9 wants it."""
    lines = ["v=0", f"o={sdp.origin}", f"s={sdp.title or ' '}"]
    for period in sdp.periods or [Period()]:
        lines += format_period(period)
    lines += format_adjustments(sdp.adjustments)
    lines += [_attribute_line(*attribute) for attribute in sdp.attributes]
    for media in sdp.media:
        version = "IP6" if ":" in media.address else "IP4"
        suffix = "" if version == "IP6" else f"/{media.ttl}"
        if media.addresses > 1:
            suffix += f"/{media.addresses}"
        lines.append(f"m={media.kind} {media.port} {media.protocol} {media.formats}")
        lines.append(f"c=IN {version} {media.address}{suffix}")
        lines += [_attribute_line(*attribute) for attribute in media.attributes]
    return "".join(f"{line}\r\n" for line in lines).encode()


def canonical(text: bytes) -> bytes:
    """With CRLF at the ends of all lines: what is signed, and compared. Some announce with bare line feeds only."""
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def parse_sdp(raw: bytes) -> Sdp:
    """Raises `Rejected`: "oversize", "sdp" (no text, a line that is none, a number that is none), "missing-line"."""
    if len(raw) > LARGEST_HEARD:
        raise Rejected("oversize", f"{len(raw)} bytes")
    try:
        lines = [line for line in raw.decode().replace("\r\n", "\n").split("\n") if line]
    except UnicodeDecodeError:
        raise Rejected("sdp", "no text") from None
    if not lines or lines[0] != "v=0":
        raise Rejected("missing-line", "v=0")
    reader = _Reader()
    for line in lines[1:]:
        if len(line) < 2 or line[1] != "=" or not line[0].isalpha():
            raise Rejected("sdp", f"no line: {line[:40]}")
        reader.take(line[0], line[2:])
    return reader.finish()


class _Reader:
    def __init__(self) -> None:
        self._sdp = Sdp("", "")
        self._seen: set[str] = set()
        self._connection = ("", 0, 1)

    def take(self, kind: str, value: str) -> None:
        self._seen.add(kind)
        media = self._sdp.media[-1] if self._sdp.media else None
        match kind:
            case "o":
                self._sdp.origin = value
            case "s":
                self._sdp.title = value.strip()
            case "t" if media is None:
                self._sdp.periods.append(parse_period(value))
            case "r" if media is None:
                self._repeat(value)
            case "z" if media is None:
                self._sdp.adjustments = parse_adjustments(value)
            case "m":
                self._media(value)
            case "c":
                if media is None:
                    self._connection = _connection(value)
                else:
                    media.address, media.ttl, media.addresses = _connection(value)
            case "a":
                name, _, text = value.partition(":")
                (self._sdp if media is None else media).attributes.append((name, text))

    def _repeat(self, value: str) -> None:
        """It belongs to the t= line before it."""
        if not self._sdp.periods:
            raise Rejected("sdp", f"r={value[:40]}")
        period = self._sdp.periods[-1]
        self._sdp.periods[-1] = replace(period, repeats=(*period.repeats, parse_repeat(value)))

    def _media(self, value: str) -> None:
        parts = value.split(" ", 3)
        try:
            port = int(parts[1].partition("/")[0])
        except (ValueError, IndexError):
            raise Rejected("sdp", f"m={value[:40]}") from None
        if len(parts) < 4 or not 0 <= port <= 65_535 or len(self._sdp.media) >= MEDIA_AT_ONCE:
            raise Rejected("sdp", f"m={value[:40]}")
        self._sdp.media.append(Media(parts[0], port, parts[2], parts[3]))

    def finish(self) -> Sdp:
        for kind, line in (("o", "o="), ("s", "s="), ("m", "m=")):
            if kind not in self._seen:
                raise Rejected("missing-line", line)
        repeats = [repeat for period in self._sdp.periods for repeat in period.repeats]
        offsets = sum(len(repeat.offsets) for repeat in repeats)
        if len(self._sdp.periods) > PERIODS_AT_ONCE or offsets > OFFSETS_AT_ONCE:
            raise Rejected("sdp", "more times than anybody can keep")
        for media in self._sdp.media:
            if not media.address:
                media.address, media.ttl, media.addresses = self._connection
            if not media.address:
                raise Rejected("missing-line", "c=")
        return self._sdp


def _connection(value: str) -> tuple[str, int, int]:
    """Address, TTL (IPv4 only) and how many addresses; hostnames are none."""
    parts = value.split()
    try:
        address, *rest = parts[2].split("/")
        found = parse_address(address)
        ttl = int(rest[0]) if rest and found.version == 4 else 0
        counted = rest[1:] if found.version == 4 else rest
        addresses = int(counted[0]) if counted else 1
    except (IndexError, ValueError):
        raise Rejected("sdp", f"c={value[:40]}") from None
    if not 0 <= ttl <= LARGEST_TTL or not 1 <= addresses <= ADDRESSES_AT_ONCE:
        raise Rejected("sdp", f"c={value[:40]}")
    return str(found), ttl, addresses


def _attribute_line(name: str, value: str) -> str:
    return f"a={name}:{value}" if value else f"a={name}"
