"""One record: how it is sealed, opened and named. That it is the right one in its place is `Chain`'s part."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError

from mcsa.durable_log.ratchet import StorageKeys
from mcsa.encoding import encode_parts
from mcsa.errors import Rejected
from mcsa.keys import Random, Secret, StorageKey
from mcsa.v1.log_pb2 import LogRecord

VERSION: Final = 1
LABEL = "mcsa log record v1"
HEAD_SIZE = 32  # bytes of a SHA-256
SALT_SIZE = 32
FIRST_PREVIOUS = bytes(HEAD_SIZE)
PART_SIZE = 512 * 1024  # bytes of a snapshot in one record; a broker carries 1 MiB
MAX_RECORD = 1024 * 1024 - 16 * 1024  # bytes, as it is stored; the rest is for the broker's headers
_TAG_SIZE = 16
_NONCE = bytes(12)  # each record has a key of its own
_LOG_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")


class _RecordKey(Secret):
    """Seals one record."""


def check_log_name(log: str) -> str:
    """The name, where it is one: lower-case letters, digits, "-" and "_", 1 to 128; `ValueError` otherwise."""
    if not _LOG_NAME.fullmatch(log):
        raise ValueError(f"not the name of a log: {log!r}")
    return log


def head_of(raw: bytes) -> bytes:
    """What the record after this one names as its previous: SHA-256, 32 bytes."""
    return hashlib.sha256(raw).digest()


def seal_record(log: str, record: LogRecord, plaintext: bytes | memoryview, keys: StorageKeys, random: Random) -> bytes:
    """The record's bytes: `record` has number, previous, generation and snapshot; the rest is filled in here.

    `ValueError` where the broker could not carry it: who decides so much at once makes several entries of it.
    """
    record.version = VERSION
    record.salt = random(SALT_SIZE)
    cipher = AESGCM(_record_key(keys.at(record.generation), record.salt).reveal())
    record.ciphertext = cipher.encrypt(_NONCE, plaintext, _bound(log, record))
    raw = record.SerializeToString(deterministic=True)
    if len(raw) > MAX_RECORD:
        raise ValueError(f"a record of {len(raw)} bytes; at most {MAX_RECORD} are stored")
    return raw


def parse_record(raw: bytes) -> LogRecord:
    """The record in these bytes, of which nothing is believed yet; `Rejected("log")`.

    There is one way to write each record: whoever stores it can't make two with different hashes of one.
    """
    try:
        record = LogRecord.FromString(raw)
    except DecodeError:
        raise Rejected("log", "malformed") from None
    record.DiscardUnknownFields()
    sizes = len(record.previous), len(record.salt)
    if record.version != VERSION or sizes != (HEAD_SIZE, SALT_SIZE) or len(record.ciphertext) < _TAG_SIZE:
        raise Rejected("log", "malformed")
    if record.SerializeToString(deterministic=True) != raw:
        raise Rejected("log", "malformed")
    return record


def open_record(log: str, record: LogRecord, keys: StorageKeys) -> bytes:
    """What is recorded; `Rejected("log")` where it was altered, or is another log's."""
    cipher = AESGCM(_record_key(keys.at(record.generation), record.salt).reveal())
    try:
        return cipher.decrypt(_NONCE, record.ciphertext, _bound(log, record))
    except InvalidTag:
        raise Rejected("log", "does not open") from None


def _record_key(key: StorageKey, salt: bytes) -> _RecordKey:
    return _RecordKey.extract(key.reveal(), salt, LABEL)


def _bound(log: str, record: LogRecord) -> bytes:
    part = record.snapshot
    place = [part.first, part.index, part.count] if record.HasField("snapshot") else []
    return encode_parts(
        LABEL, log, record.version, record.number, record.previous, record.generation, record.salt, *place
    )
