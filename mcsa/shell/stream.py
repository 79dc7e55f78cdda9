"""The door to an Authorizer's logs: a JetStream stream, one subject for each log.

The store is believed nothing: what the records are worth, `mcsa.durable_log` knows. What is asked of it is that it
keeps what it acknowledged, and that of two who append at the same place one is refused.

**An append whose answer didn't come** may have been stored, may be stored later, or never. So the log is read: is the
record after the expected place ours, byte for byte (each has a fresh salt), it was stored. If another's is there, it
was not, and can't be any more. If none is there, the same bytes are offered again under the same condition: they can
be stored there once. While that isn't known, whoever offers another record at that place may meet the first one there.

Appends to different logs go on at the same time; those to one log one after another, since each names the place of
the one before. What arrives together should be one record: JetStream waits for the disk with each.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Sequence
from typing import Any

from mcsa.broker import ANY, STOREKEEPER, log_stream
from mcsa.durable_log import Conflict, Stored
from mcsa.durable_log.record import MAX_RECORD
from mcsa.errors import Refused
from mcsa.shell.bus import Bus, BusUnavailable
from mcsa.shell.jetstream import JetStream, Patience, StoreRefused, nonsense
from mcsa.shell.nkeys import NkeySeed
from mcsa.subjects import log_subject

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_WRONG_LAST_SEQUENCE = (10071, 10164)  # err_code; the second where a cluster has the other one under way
_NO_MESSAGE = 10037
_NO_STREAM = 10059


class LogStream:
    """The logs of the Authorizer of that name. All methods raise `BusUnavailable` where the store can't be reached, for
    longer than `patience` has."""

    def __init__(self, bus: Bus, authorizer: str, patience: Patience | None = None) -> None:
        self._authorizer = authorizer
        self._stream = log_stream(authorizer)
        self._jetstream = JetStream(bus, patience or Patience())

    async def append(self, log: str, raw: bytes, expected: int) -> int:
        """Stores a record after the one at sequence `expected`, 0 for the first of all; returns its own sequence, once
        the disk has it (`sync_interval: always`).

        Raises `Conflict` where the log doesn't end there; what follows is another's. After `BusUnavailable("lost")` and
        ("timeout") the record may be there or still come: append the same one again, or read.
        """
        if len(raw) > MAX_RECORD:  # the broker would end the connection
            raise BusUnavailable("too-large", f"A record of {len(raw)} bytes; at most {MAX_RECORD} are stored.")
        append = _Append(self, log, raw, expected)
        return await self._jetstream.repeat(append.attempt)

    async def read(self, log: str, after: int = 0) -> AsyncIterator[Stored]:
        """The records after that sequence, in order, up to the last that is there when it is asked for."""
        while (stored := await self.following(log, after)) is not None:
            yield stored
            after = stored.sequence

    async def following(self, log: str, after: int) -> Stored | None:
        """The first record after that sequence."""
        return await self._jetstream.repeat(lambda: self._following(log, after))

    async def last(self, log: str) -> Stored | None:
        """The last record."""
        return await self._jetstream.repeat(lambda: self._last(log))

    async def purge(self, log: str, before: int) -> None:
        """Removes the records before that sequence. They are gone from the store, not from its backups."""
        if before > 1:  # to JetStream, less would mean all
            await self._call("STREAM.PURGE", filter=self._subject(log), seq=before)

    async def remove(self, log: str) -> None:
        """Removes all records of a log that has ended."""
        await self._call("STREAM.PURGE", filter=self._subject(log))

    async def logs(self) -> list[str]:
        """The logs there are. `Refused("store")` where there is no place for them yet."""
        found: list[str] = []
        prefix = self._subject("")
        while True:
            try:
                answer = await self._call("STREAM.INFO", subjects_filter=self._subject(ANY), offset=len(found))
            except StoreRefused as refused:
                raise self._no_stream() if refused.number == _NO_STREAM else refused from None
            subjects = _field(_field(answer, "state", dict), "subjects", dict, {})
            if not all(text.startswith(prefix) for text in subjects):
                raise nonsense(self._stream)
            found += [text.removeprefix(prefix) for text in subjects]
            if not subjects or len(found) >= _field(answer, "total", int, 0):
                return sorted(found)

    def _no_stream(self) -> Refused:
        sentence = (
            f"the broker has no place for the logs of this Authorizer (stream {self._stream}); make it once, as the "
            f"storekeeper: mcsa store prepare {self._authorizer} --bus URL --nkey FILE"
        )
        return Refused("store", "stream", sentence)

    async def _call(self, verb: str, **question: Any) -> dict[str, Any]:
        return await self._jetstream.repeat(lambda: self._jetstream.call(verb, self._stream, **question))

    async def _offer(self, log: str, raw: bytes, expected: int) -> int:
        answer = await self._jetstream.ask(self._subject(log), raw, {EXPECTED: str(expected)})
        sequence: int = _field(answer, "seq", int)
        if sequence <= expected:
            raise nonsense(log)
        return sequence

    async def _following(self, log: str, after: int) -> Stored | None:
        return await self._get(log, after, seq=after + 1, next_by_subj=self._subject(log))

    async def _last(self, log: str) -> Stored | None:
        return await self._get(log, 0, last_by_subj=self._subject(log))

    def _subject(self, log: str) -> str:
        return log_subject(self._authorizer, log)

    async def _get(self, log: str, after: int, **which: Any) -> Stored | None:
        try:
            answer = await self._jetstream.call("STREAM.MSG.GET", self._stream, **which)
        except StoreRefused as refused:
            if refused.number == _NO_MESSAGE:
                return None
            raise
        message = _field(answer, "message", dict)
        sequence = _field(message, "seq", int)
        try:
            raw = base64.b64decode(_field(message, "data", str, ""), validate=True)
        except binascii.Error:
            raise nonsense(log) from None
        if sequence <= after:
            raise nonsense(log)
        return Stored(sequence, raw)


class _Append:
    """One record on its way, through as many tries as it takes."""

    def __init__(self, stream: LogStream, log: str, raw: bytes, expected: int) -> None:
        self._stream = stream
        self._log = log
        self._raw = raw
        self._expected = expected
        self._tried = False

    async def attempt(self) -> int:
        """Its sequence, `Conflict`, or `BusUnavailable`: not known, or not yet."""
        if self._tried:
            sequence = await self._find()
            if sequence is not None:
                return sequence
        self._tried = True
        try:
            return await self._stream._offer(self._log, self._raw, self._expected)
        except StoreRefused as refused:
            if refused.number not in _WRONG_LAST_SEQUENCE:
                raise
            return await self._after_refusal(refused)

    async def _find(self) -> int | None:
        """The record's sequence, or None where the place is free; `Conflict` where another's is there."""
        following = await self._stream._following(self._log, self._expected)
        if following is None:
            return None
        if following.raw != self._raw:
            raise Conflict(self._log, self._expected, following.sequence)
        return following.sequence

    async def _after_refusal(self, refused: StoreRefused) -> int:
        """Who is there: ourselves by an earlier try, another, or nobody where there was somebody?"""
        sequence = await self._find()
        if sequence is not None:
            return sequence
        last = await self._stream._last(self._log)
        ends_at = last.sequence if last else 0
        if ends_at == self._expected:  # another's is under way in the cluster, and may fail
            refused.passing = True
            raise refused
        raise Conflict(self._log, self._expected, ends_at)


async def prepare_stream(
    servers: Sequence[str], seed: NkeySeed, authorizer: str, *, replicas: int = 1, patience: Patience | None = None
) -> None:
    """Makes an Authorizer's stream, or brings it to what this version wants; as the storekeeper
    (`mcsa.broker.storekeeper_grant`). `replicas`: servers that keep a copy each. `BusUnavailable`."""
    patience = patience or Patience()
    bus = Bus(servers, STOREKEEPER, seed)
    jetstream = JetStream(bus, patience)
    stream, configuration = log_stream(authorizer), stream_configuration(authorizer, replicas)

    async def update_or_create() -> None:
        try:
            await jetstream.call("STREAM.UPDATE", stream, **configuration)
        except StoreRefused as refused:
            if refused.number != _NO_STREAM:
                raise
            await jetstream.call("STREAM.CREATE", stream, **configuration)

    try:
        await bus.start(patience.within)
        await jetstream.repeat(update_or_create)
    finally:
        await bus.close()


def stream_configuration(authorizer: str, replicas: int) -> dict[str, Any]:
    """A stream that forgets nothing by itself: a full one refuses what is new."""
    return {
        "name": log_stream(authorizer),
        "subjects": [log_subject(authorizer, ANY)],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "num_replicas": replicas,
        "deny_delete": True,
        "max_consumers": -1,
    }


def _field(answer: dict[str, Any], name: str, kind: type, otherwise: Any = None) -> Any:
    """A part of an answer, where it is what it should be."""
    found = answer.get(name)
    if found is None and otherwise is not None:
        return otherwise
    if not isinstance(found, kind):
        raise nonsense(name)
    return found
