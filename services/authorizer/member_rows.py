"""The text of a group's members: host, address and users of each, as rows of bytes in pages of 64.

A page is one `bytes`, so that a row costs its text and hardly more, and is cut into rows when one of them is asked for.
Bytes that UTF-8 never has stand between what is written, so that any text may be, and is found by a plain search:

    name = number of its prefix (1 byte, 0 to 127), the rest in UTF-8
    row  = host (name), 0xFE, address (UTF-8), then each user, sorted: 0xFC, user (name), 0xFD; nothing for a free row
    page = 64 rows, each followed by 0xFF

A prefix is a name up to its last slash; the first 128 there are get numbers, number 0 is the empty one. A name with
another is written in full under number 0. Prefixes are never dropped: thus a name is written in one way only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from mcsa.errors import Rejected

PAGE = 64  # rows
_MAX_PREFIXES = 128
_USER, _USER_END, _ADDRESS, _END = b"\xfc", b"\xfd", b"\xfe", b"\xff"
_FREE_PAGE = _END * PAGE
_AS_TEXT = bytes.maketrans(_USER + _USER_END + _ADDRESS + _END, b"\n" * 4)


class Row(NamedTuple):
    """What is written of a member."""

    host: str
    address: str
    users: set[str]


class Rows:
    """Rows by place, in whole pages; see the module."""

    def __init__(self) -> None:
        self._prefixes: list[str] = []
        self._numbers: dict[str, int] = {}
        self._pages: list[bytes] = []
        self._add_prefix("")

    def __len__(self) -> int:
        """How many rows there are, free ones included."""
        return len(self._pages) * PAGE

    def __getitem__(self, place: int) -> Row:
        """Who is at a place that is not free."""
        return self._read(self._cut(place // PAGE)[place % PAGE])

    def put(self, place: int, row: Row) -> None:
        """Writes a row in the place of another, or of a free one."""
        for name in (row.host, *row.users):
            self._add_prefix(name[: name.rfind("/") + 1])
        users = b"".join(_USER + self._written(user) + _USER_END for user in sorted(row.users))
        self._replace(place, self._written(row.host) + _ADDRESS + row.address.encode() + users)

    def clear(self, place: int) -> None:
        """Frees a row."""
        self._replace(place, b"")

    def grow(self) -> None:
        """Adds a page of free rows."""
        self._pages.append(_FREE_PAGE)

    def truncate(self, size: int) -> None:
        """Drops whole pages after the first `size` rows."""
        del self._pages[-(-size // PAGE) :]

    def walk(self) -> Iterator[tuple[int, Row]]:
        """All that are not free, with their places."""
        for number in range(len(self._pages)):
            for place, raw in enumerate(self._cut(number), number * PAGE):
                if raw:
                    yield place, self._read(raw)

    def free(self) -> Iterator[int]:
        """Places of the free rows."""
        for number, page in enumerate(self._pages):
            if page.startswith(_END) or _END + _END in page:
                yield from (place for place, raw in enumerate(self._cut(number), number * PAGE) if not raw)

    def hosts_of(self, user: str) -> list[str]:
        """The hosts with this user on them, in order of their places. One search of all bytes."""
        sought = _USER + self._written(user) + _USER_END
        pages = (number for number, page in enumerate(self._pages) if sought in page)
        return [self._read(raw).host for number in pages for raw in self._cut(number) if sought in raw]

    # ---- one row

    def _cut(self, number: int) -> list[bytes]:
        return self._pages[number].split(_END)[:PAGE]

    def _replace(self, place: int, raw: bytes) -> None:
        rows = self._cut(place // PAGE)
        rows[place % PAGE] = raw
        self._pages[place // PAGE] = _END.join(rows) + _END

    def _read(self, raw: bytes) -> Row:
        head, *users = raw.split(_USER)
        host, address = head.split(_ADDRESS)
        return Row(self._name(host), address.decode(), {self._name(user[:-1]) for user in users})

    def _name(self, written: bytes) -> str:
        return self._prefixes[written[0]] + written[1:].decode()

    def _written(self, name: str) -> bytes:
        number = self._numbers.get(name[: name.rfind("/") + 1], 0)
        return (chr(number) + name[len(self._prefixes[number]) :]).encode()

    def _add_prefix(self, prefix: str) -> None:
        if prefix not in self._numbers and len(self._prefixes) < _MAX_PREFIXES:
            self._numbers[prefix] = len(self._prefixes)
            self._prefixes.append(prefix)

    # ---- written down

    def dump(self) -> tuple[bytes, bytes]:
        """For `load`: the prefixes in UTF-8 by number, 0xFF between them; the pages, one after the other."""
        return _END.join(prefix.encode() for prefix in self._prefixes), b"".join(self._pages)

    @classmethod
    def load(cls, prefixes: bytes, pages: bytes) -> Rows:
        """The other way; `Rejected("record")` for bytes that no `dump` gives."""
        rows = cls()
        try:
            for prefix in prefixes.split(_END):
                rows._add_prefix(prefix.decode())
        except UnicodeDecodeError:
            raise Rejected("record", "a prefix is no text") from None
        if rows.dump()[0] != prefixes:
            raise Rejected("record", "the prefixes don't fit")
        rows._pages = list(_cut_pages(pages, len(rows._prefixes)))
        return rows


def _cut_pages(raw: bytes, prefixes: int) -> Iterator[bytes]:
    """The pages, each looked at byte by byte, in C."""
    name = rb"[\x00-\x%02x][^\xf8-\xff]*+" % (prefixes - 1)
    row = rb"%b\xfe[^\xf8-\xff]*+(?:\xfc%b\xfd)*+" % (name, name)
    page = re.compile(rb"(?:(?:%b)?+\xff){%d}" % (row, PAGE))
    at = 0
    while at < len(raw):
        match = page.match(raw, at)
        if match is None:
            raise Rejected("record", "no page of rows")
        try:
            match[0].translate(_AS_TEXT).decode()
        except UnicodeDecodeError:
            raise Rejected("record", "a row is no text") from None
        yield match[0]
        at = match.end()
