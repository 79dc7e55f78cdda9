"""From the fragments in a record to what users said: signatures, certificates, the order of each stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from mcsa.control.fragments import MESSAGE_MAX, check_fragment, check_shape, join
from mcsa.control.status import parse_status
from mcsa.errors import Rejected
from mcsa.identity import Identity
from mcsa.trust import Trust
from mcsa.v1.conference_pb2 import ControlMessage, Fragment


@dataclass(frozen=True, slots=True)
class Said:
    """A control message that its user signed. `entry` is where it stands, `at` the entry's time."""

    entry: int
    at: float
    identity: Identity
    process_id: bytes
    sequence: int
    message: ControlMessage
    raw: bytes
    """The serialised ControlMessage as it was signed."""
    fragments: tuple[Fragment, ...]

    @property
    def certificate(self) -> bytes:
        """DER of the signer's leaf."""
        return self.identity.chain[0]

    @property
    def user(self) -> str:
        """SPIFFE ID."""
        return str(self.identity.id)


@dataclass(slots=True)
class Stream:
    """One process of a user, as far as it is in the record.

    Where a sender no longer has the beginning of its stream, it begins later. A Status in the record, in which the
    sender says so, is what excuses it.
    """

    identity: Identity
    last: int = 0
    oldest: int = 1  # what its Status last said: it can't repeat what is older
    lacks: int = 0  # messages skipped, at its word
    begins_at: int = 1  # its first message here, where there is no such word

    def advance(self, sequence: int) -> None:
        """To the next message; `Rejected("gap")` or `Rejected("order")` where it is not the next."""
        if not self.last and sequence > 1 and sequence != self.oldest:
            self.begins_at = self.last = sequence
            return
        if sequence <= self.last:
            raise Rejected("order", f"message {sequence} of {self.identity.id} stands after its message {self.last}")
        if sequence not in (self.last + 1, self.oldest):
            missing = f"message {self.last + 1} of {self.identity.id} is missing"
            raise Rejected("gap", f"{missing}: its message {sequence} stands here")
        self.lacks += sequence - self.last - 1
        self.last = sequence


class Streams:
    """All streams of a record, entry by entry."""

    def __init__(self, conference_id: bytes, trust: Trust) -> None:
        self._conference_id = conference_id
        self._trust = trust
        self.by_process: dict[bytes, Stream] = {}

    def take(self, entry: int, at: float, fragments: Sequence[Fragment]) -> Said | None:
        """What a message entry says; None for a Status, which is evidence of what can't be had any more.

        Raises `Rejected`: what `check_shape`, `Trust.verify_chain`, `check_fragment` and `parse_status` reject,
        and "conference", "pieces" (fragments missing, or of several messages), "stream" (a process of two users, or
        of two certificates, or one whose certificate the record lacks), "gap", "order", "message".
        """
        _check_pieces(fragments)
        first = fragments[0]
        if first.conference_id != self._conference_id:
            raise Rejected("conference", "the message is of another conference")
        check_shape(first)
        stream = self.by_process.get(first.process_id) or Stream(self._identify(first, at, None))
        for fragment in fragments:
            check_shape(fragment)
            check_fragment(fragment, self._identify(fragment, at, stream))
        if first.sequence == 0:
            stream.oldest = max(stream.oldest, parse_status(first).oldest)
            self.by_process[first.process_id] = stream
            return None
        raw = join(fragments)
        message = _parse_message(raw, first.sequence)
        stream.advance(first.sequence)
        self.by_process[first.process_id] = stream
        return Said(entry, at, stream.identity, first.process_id, first.sequence, message, raw, tuple(fragments))

    def _identify(self, fragment: Fragment, at: float, stream: Stream | None) -> Identity:
        """A stream's beginning carries the chain, which no signature covers."""
        chain = fragment.certificate_chain or (stream.identity.chain if stream else ())
        if not chain:
            raise Rejected("stream", f"the certificate of {fragment.user[:80]} is missing: its stream has no beginning")
        identity = self._trust.verify_chain(chain, at, ("user",), peers=True)
        if stream is not None and identity.fingerprint != stream.identity.fingerprint:
            raise Rejected("stream", f"the certificate is not that of {stream.identity.id}, whose stream it is")
        return identity


def _check_pieces(fragments: Sequence[Fragment]) -> None:
    if not fragments:
        raise Rejected("pieces", "no fragment")
    first = fragments[0]
    places = [(f.conference_id, f.process_id, f.sequence, f.count, f.index) for f in fragments]
    indices = range(first.count) if first.sequence else [first.index]  # a part of a Status is of use on its own
    whole = [(first.conference_id, first.process_id, first.sequence, first.count, index) for index in indices]
    if places != whole:
        raise Rejected("pieces", "not all fragments of one message, each once, in their order")


def _parse_message(raw: bytes, sequence: int) -> ControlMessage:
    """As the control streams deliver it: a Status is outside of streams, an introduction opens one."""
    if len(raw) > MESSAGE_MAX:
        raise Rejected("message", f"{len(raw)} bytes")
    try:
        message = ControlMessage.FromString(raw)
    except DecodeError:
        raise Rejected("message", "no control message") from None
    body = message.WhichOneof("body")
    if body == "status" or (body == "introduction") != (sequence == 1):
        raise Rejected("message", f"{body} as number {sequence} of a stream")
    return message
