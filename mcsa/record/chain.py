"""The bytes of a record, and the chain through them: each entry names the SHA-256 of the serialised entry before it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from mcsa.control.fragments import ID_SIZE, MESSAGE_MAX
from mcsa.errors import Rejected
from mcsa.identity import SpiffeId
from mcsa.v1.conference_pb2 import Record, RecordEntry

VERSION = 1
HEAD_SIZE = 32  # bytes of a SHA-256
FIRST_PREVIOUS = bytes(HEAD_SIZE)
MAX_RECORD = 256 * 1024 * 1024  # bytes: a day of a large conference; a limit on what a verifier reads into memory
MAX_ENTRY = 16 * MESSAGE_MAX  # bytes: a control message in the smallest of fragments, with their signatures
COUNTERSIGNED_WITHIN = 60.0  # seconds between the last entry and the countersignature, which is asked for at once
DESCRIPTION, MESSAGE, COUNTERSIGNATURE = "description", "message", "countersignature"
_CONTENT = {DESCRIPTION: "description", MESSAGE: "fragments", COUNTERSIGNATURE: "countersignature"}

_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True, slots=True)
class Chained:
    """A record whose chain is unbroken; what its entries say is not yet believed."""

    conference_id: bytes
    user: str
    raw_entries: tuple[bytes, ...]
    entries: tuple[RecordEntry, ...]

    @property
    def head(self) -> bytes:
        """SHA-256 of the last entry, 32 bytes."""
        return head_of(self.raw_entries)


def head_of(raw_entries: tuple[bytes, ...] | list[bytes]) -> bytes:
    """SHA-256 of the last serialised entry; 32 zero bytes where there is none."""
    return hashlib.sha256(raw_entries[-1]).digest() if raw_entries else FIRST_PREVIOUS


def parse_record(raw: bytes) -> Chained:
    """The record in these bytes, in the one serialisation that a record has.

    Raises `Rejected`: "oversize", "malformed" (no record, or an unknown field, or another serialisation), "version",
    "name", "chain" (an entry is missing, altered, in another place, or earlier than the one before it).
    """
    if len(raw) > MAX_RECORD:
        raise Rejected("oversize", f"the record is {len(raw)} bytes long, and at most {MAX_RECORD} are read")
    record = _parse_canonical(Record(), raw, "the file")
    if record.version != VERSION:
        raise Rejected("version", f"the record has format {record.version}; this program knows format {VERSION}")
    if len(record.conference_id) != ID_SIZE:
        raise Rejected("malformed", f"the record's conference id is not {ID_SIZE} bytes long")
    if SpiffeId.parse(record.user).kind != "user":
        raise Rejected("name", f"the record's writer is no user: {record.user[:80]}")
    raw_entries = tuple(record.entries)
    return Chained(record.conference_id, record.user, raw_entries, tuple(_check_chain(raw_entries)))


def _check_chain(raw_entries: tuple[bytes, ...]) -> Iterator[RecordEntry]:
    previous, time_ms = FIRST_PREVIOUS, 0
    for number, raw in enumerate(raw_entries, 1):
        entry = _parse_entry(raw, number)
        if entry.number != number:
            raise Rejected("chain", f"entry {number}: it says that it is number {entry.number}")
        if entry.previous != previous:
            raise Rejected("chain", f"entry {number}: it does not follow the entry before it")
        if entry.kind != COUNTERSIGNATURE and entry.time_ms < time_ms:
            raise Rejected("chain", f"entry {number}: its time is before that of the entry before it")
        previous, time_ms = hashlib.sha256(raw).digest(), entry.time_ms
        yield entry


def _parse_entry(raw: bytes, number: int) -> RecordEntry:
    if len(raw) > MAX_ENTRY:
        raise Rejected("oversize", f"entry {number}: {len(raw)} bytes, and at most {MAX_ENTRY} are read")
    entry = _parse_canonical(RecordEntry(), raw, f"entry {number}")
    content = {field.name for field, _ in entry.ListFields()} & set(_CONTENT.values())
    if entry.kind not in _CONTENT or content != {_CONTENT[entry.kind]}:
        raise Rejected("malformed", f"entry {number}: it is none of description, message, countersignature")
    return entry


def _parse_canonical(message: _M, raw: bytes, what: str) -> _M:
    """Nothing may hide in a record: no unknown field, no second way to write the same."""
    try:
        message.ParseFromString(raw)
    except DecodeError:
        raise Rejected("malformed", f"{what}: not a record's bytes") from None
    message.DiscardUnknownFields()
    if message.SerializeToString(deterministic=True) != raw:
        raise Rejected("malformed", f"{what}: it holds something that is no part of a record")
    return message
