"""Session descriptions, RFC 8866: strict out, liberal in.

Out: CRLF, the lines in the order of the RFC's grammar. In: LF alone, unknown attributes, unknown lines and lines out of
order are passed over; what makes a description useless (no version, no origin, no title, no media) is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mcsa.addresses import canonical
from mcsa.errors import Rejected

LARGEST = 1_000  # bytes out; RFC 2974, section 6: an announcement should be smaller than 1 kByte
LARGEST_HEARD = 2_048  # bytes in; others announce longer ones (PipeWire takes 2,047)
NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970, RFC 8866, section 5.9
MEDIA_AT_ONCE = 16
LATEST = 1 << 40  # seconds since 1900 that we take for a time
LARGEST_TTL = 255  # RFC 791, section 3.1

Attributes = list[tuple[str, str]]


@dataclass(slots=True)
class Media:
    """An m= line and what belongs to it. `address` and `ttl` are empty where the session's c= line holds."""

    kind: str
    port: int
    protocol: str
    formats: str
    address: str = ""
    ttl: int = 0
    attributes: Attributes = field(default_factory=list)

    def attribute(self, name: str) -> str | None:
        """The first of that name."""
        return next((value for known, value in self.attributes if known == name), None)


@dataclass(slots=True)
class Sdp:
    """One description. Times are seconds since 1970, 0 where none; `origin` is the o= line without "o="."""

    origin: str
    title: str
    start: int = 0
    end: int = 0
    attributes: Attributes = field(default_factory=list)
    media: list[Media] = field(default_factory=list)

    def attribute(self, name: str) -> str | None:
        """The first of that name at session level."""
        return next((value for known, value in self.attributes if known == name), None)


def format_sdp(sdp: Sdp) -> bytes:
    """As RFC 8866, section 9 wants it."""
    lines = ["v=0", f"o={sdp.origin}", f"s={sdp.title or ' '}", f"t={_to_ntp(sdp.start)} {_to_ntp(sdp.end)}"]
    lines += [_attribute_line(*attribute) for attribute in sdp.attributes]
    for media in sdp.media:
        version = "IP6" if ":" in media.address else "IP4"
        suffix = "" if version == "IP6" else f"/{media.ttl}"
        lines.append(f"m={media.kind} {media.port} {media.protocol} {media.formats}")
        lines.append(f"c=IN {version} {media.address}{suffix}")
        lines += [_attribute_line(*attribute) for attribute in media.attributes]
    return "".join(f"{line}\r\n" for line in lines).encode()


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
        self._address, self._ttl = "", 0

    def take(self, kind: str, value: str) -> None:
        self._seen.add(kind)
        media = self._sdp.media[-1] if self._sdp.media else None
        match kind:
            case "o":
                self._sdp.origin = value
            case "s":
                self._sdp.title = value.strip()
            case "t" if "t" not in self._times_taken():
                self._sdp.start, self._sdp.end = self._times(value)
            case "m":
                self._media(value)
            case "c":
                address, ttl = _connection(value)
                if media is None:
                    self._address, self._ttl = address, ttl
                else:
                    media.address, media.ttl = address, ttl
            case "a":
                name, _, text = value.partition(":")
                (self._sdp if media is None else media).attributes.append((name, text))

    def _times_taken(self) -> str:
        return "t" if self._sdp.start or self._sdp.end else ""

    @staticmethod
    def _times(value: str) -> tuple[int, int]:
        try:
            start, end = (int(part) for part in value.split())
        except ValueError:
            raise Rejected("sdp", f"t={value[:40]}") from None
        if not 0 <= start < LATEST or not 0 <= end < LATEST:
            raise Rejected("sdp", f"t={value[:40]}")
        return _from_ntp(start), _from_ntp(end)

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
        for media in self._sdp.media:
            if not media.address:
                media.address, media.ttl = self._address, self._ttl
            if not media.address:
                raise Rejected("missing-line", "c=")
        return self._sdp


def _connection(value: str) -> tuple[str, int]:
    parts = value.split()
    try:
        address, *rest = parts[2].split("/")
        address = canonical(address)
        ttl = int(rest[0]) if rest and ":" not in address else 0
    except (IndexError, ValueError):
        raise Rejected("sdp", f"c={value[:40]}") from None
    if not 0 <= ttl <= LARGEST_TTL:
        raise Rejected("sdp", f"c={value[:40]}")
    return address, ttl


def _attribute_line(name: str, value: str) -> str:
    return f"a={name}:{value}" if value else f"a={name}"


def _to_ntp(seconds: int) -> int:
    return seconds + NTP_EPOCH if seconds else 0


def _from_ntp(seconds: int) -> int:
    return seconds - NTP_EPOCH if seconds > NTP_EPOCH else 0
