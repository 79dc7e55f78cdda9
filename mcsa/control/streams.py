"""The control messages of one conference: each process is a stream, delivered everywhere whole, in order, once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from mcsa.control.fragments import body_room, check_fragment, differ, parse_fragment, sign_fragment
from mcsa.control.peers import Peers, PeerStream
from mcsa.control.reassembly import Whole
from mcsa.control.sending import REPEAT_AFTER, Listener, OwnStream
from mcsa.control.status import Told, parse_status, status_parts
from mcsa.errors import Rejected
from mcsa.identity import Credentials, Identity
from mcsa.keys import Random
from mcsa.trust import Trust
from mcsa.v1.conference_pb2 import ControlMessage, Fragment, Introduction, StreamPosition

STATUS_SOONEST, STATUS_LATEST = 0.05, 0.15  # seconds from a change to the Status that tells it
STATUS_IDLE_FOR = 5.0  # seconds between Status where nothing changes
STATUS_AGAIN_AFTER = 0.5  # seconds from a Status to the next that only says the same
CROWD = 8  # live streams above which Status become rarer, so that all together stay as many
FIRST_STATUS_WITHIN = 0.5  # seconds that a new stream has to tell what it has, before all is repeated for it


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message whose turn it is."""

    user: str
    process_id: bytes
    sequence: int
    message: ControlMessage
    raw: bytes
    """The serialised ControlMessage as it was signed."""
    fragments: tuple[Fragment, ...]
    """As received, for the record. Those of sequence 1 carry the chain; where a stream begins later here, because its
    sender no longer has the beginning, the chain is put to the first message delivered (no signature covers it)."""
    certificate: bytes
    """DER of the signer's leaf."""


@dataclass(frozen=True, slots=True)
class Equivocated:
    """A user signed two things for one place of its stream: both, for whoever is to believe it (`evidence`)."""

    user: str
    evidence: tuple[Fragment, ...]


class ControlStreams:
    """All streams of a conference, as one of its processes sees them.

    `permits` says whether the conference admits a user (SPIFFE ID). One that is not `active` hears only: it sends
    no introduction, no Status and no message.
    """

    def __init__(
        self,
        conference_id: bytes,
        user: Credentials,
        process_id: bytes,
        trust: Trust,
        permits: Callable[[str], bool],
        random: Random,
        now: float,
        *,
        active: bool = True,
    ) -> None:
        """Sends the Introduction. `Refused("chain-too-long")` where the user's chain doesn't fit into a datagram."""
        self.conference_id = conference_id
        self.process_id = process_id
        self.active = active
        self._user = user
        self._trust = trust
        self._permits = permits
        self._random = random
        self._own = OwnStream(user, conference_id, process_id)
        self._peers = Peers()
        self._outgoing: list[bytes] = []
        self._status_room = body_room(user, 0)
        self._now = now
        self._told_at = now
        self._status_number = 0
        self._untold = False  # whether something changed since the last Status
        self._status_at = now + STATUS_IDLE_FOR
        self._introduction: Delivered | None = None
        if active:
            self._introduction = self.send(ControlMessage(introduction=Introduction(time_ms=int(now * 1000))), now)
            self._change(now)

    @property
    def introduction(self) -> Delivered:
        """The own first message. Only one that is active has it."""
        if self._introduction is None:
            raise ValueError("streams that only hear have no introduction")
        return self._introduction

    def send(self, message: ControlMessage, now: float) -> Delivered:
        """The own next message, as the others will get it; its datagrams are in `outgoing`.

        `Refused("message-too-long")` above 64 KiB.
        """
        if not self.active:
            raise ValueError("streams that only hear send nothing")
        raw = message.SerializeToString(deterministic=True)
        fragments = self._own.append(raw, now)
        self._queue(fragments)
        return Delivered(
            str(self._user.id), self.process_id, self._own.last, message, raw, fragments, self._user.chain[0]
        )

    def datagram_arrived(self, datagram: bytes, now: float) -> list[Delivered | Equivocated]:
        """What a datagram completes: messages in the order of their stream, or evidence that its user cheats.

        Raises `Rejected`: what `parse_fragment`, `check_fragment`, `parse_status`, `Trust.verify_chain`, `Peers.find`
        and `Reassembly.take` reject, and "conference" (another one's), "not-permitted", "unknown-stream" (nothing of
        it was heard that carries its certificate; it will be repeated), "certificate" (not the one of this stream),
        "old-status" (overtaken by a newer one, or played again), "equivocation" (further ones of a stream whose
        evidence was given already).
        """
        self._now = now
        fragment = parse_fragment(datagram)
        if fragment.conference_id != self.conference_id:
            raise Rejected("conference")
        if fragment.process_id == self.process_id:
            return self._came_back(fragment)
        if not self._permits(fragment.user):
            raise Rejected("not-permitted", fragment.user[:80])
        stream = self._peers.find(fragment.process_id, fragment.user)
        if stream is not None and fragment.sequence and self._is_useless(stream, fragment, now):
            return []
        stream = self._authenticate(stream, fragment, now)
        if fragment.sequence:
            stream.listener.hear(now)
            return self._piece_arrived(stream, fragment, now)
        told = parse_status(fragment)
        stream.take_status(told.number, fragment.index)
        stream.listener.hear(now)
        return self._status_arrived(stream, told, now)

    def outgoing(self) -> list[bytes]:
        """The datagrams to be sent now; each is given once."""
        out, self._outgoing = self._outgoing, []
        return out

    def wake_at(self) -> float | None:
        """When `due` has something to do; None where nothing will be sent unless something arrives."""
        if not self.active:
            return None
        repeat_at = self._own.repeat_at(stream.listener for stream in self._peers)
        return self._status_at if repeat_at is None else min(self._status_at, repeat_at)

    def due(self, now: float) -> None:
        """Sends what it is time for: Status, and repeats."""
        self._now = now
        if not self.active:
            return
        if now >= self._status_at:
            self._tell_status(now)
        self._queue(self._own.repeats((stream.listener for stream in self._peers), now))

    def positions(self) -> list[StreamPosition]:
        """How far the streams are complete here, the own first."""
        own = StreamPosition(process_id=self.process_id, sequence=self._own.last)
        return [own, *self._positions_of_others()] if self.active else self._positions_of_others()

    def settled(self, users: Collection[str]) -> bool:
        """Whether every stream of these users that was heard of late has told that it has all of ours, and our own
        Status has told what we have: then nobody waits for anything from us.

        A user of whom nothing was heard doesn't count.
        """
        living = [stream for stream in self._peers if stream.user in users and stream.listener.lives(self._now)]
        return not self._untold and all(stream.listener.has >= self._own.last for stream in living)

    def heard_at(self, user: str) -> float | None:
        """When something authentic and new of this user arrived last."""
        return max((stream.listener.heard_at for stream in self._peers if stream.user == user), default=None)

    def forget(self, user: str) -> None:
        """Drops an ejected user's streams for good; where it is admitted again, it is with a new process."""
        self._peers.forget(user)

    def _queue(self, fragments: Collection[Fragment]) -> None:
        self._outgoing += [fragment.SerializeToString(deterministic=True) for fragment in fragments]

    def _came_back(self, fragment: Fragment) -> list[Delivered | Equivocated]:
        """The network may give us what we sent; nobody else may claim our stream."""
        if fragment.user != str(self._user.id):
            raise Rejected("foreign-stream", fragment.user[:80])
        return []

    def _is_useless(self, stream: PeerStream, fragment: Fragment, now: float) -> bool:
        """Whether there is nothing to learn, so that no signature need be verified: a duplicate, too old, too new."""
        known = stream.incoming.known(fragment)
        if differ(known, fragment) if known is not None else not stream.incoming.out_of_reach(fragment):
            return False
        self._want_status(now)  # somebody is believed to lack it, or we lack much
        return True

    def _authenticate(self, stream: PeerStream | None, fragment: Fragment, now: float) -> PeerStream:
        chain = fragment.certificate_chain or (stream.identity.chain if stream else ())
        if not chain:
            self._want_status(now)  # which doesn't list the stream: it will be repeated from its beginning
            raise Rejected("unknown-stream")
        identity = self._trust.verify_chain(chain, now, ("user",), peers=True)
        if stream is not None and identity.fingerprint != stream.identity.fingerprint:
            raise Rejected("certificate", "another one in mid-stream")
        check_fragment(fragment, identity)
        return stream or self._begin(fragment.process_id, identity, now)

    def _begin(self, process_id: bytes, identity: Identity, now: float) -> PeerStream:
        listener = Listener(heard_at=now, repeat_at=now + FIRST_STATUS_WITHIN * self._crowding)
        stream = self._peers.add(process_id, identity, listener)
        self._own.repeat_after = REPEAT_AFTER * self._crowding
        self._change(now)
        return stream

    def _piece_arrived(self, stream: PeerStream, fragment: Fragment, now: float) -> list[Delivered | Equivocated]:
        known = stream.incoming.known(fragment)
        if known is not None:
            return [_equivocation(stream, known, fragment)]
        stream.incoming.take(fragment)
        return self._deliver(stream, now)

    def _status_arrived(self, stream: PeerStream, told: Told, now: float) -> list[Delivered | Equivocated]:
        has = told.position(self.process_id)
        if has is not None:
            stream.listener.tell(min(has, self._own.last), now)
        behind = stream.listener.has + 1 < self._own.oldest  # our Status tells it where to go on
        stream.incoming.skip_to(told.oldest)
        if behind or told.last > stream.incoming.complete:
            self._want_status(now)
        return self._deliver(stream, now)

    def _deliver(self, stream: PeerStream, now: float) -> list[Delivered | Equivocated]:
        out: list[Delivered | Equivocated] = [_delivered(stream, whole) for whole in stream.incoming.ready()]
        if out:
            self._change(now)
        return out

    def _change(self, now: float) -> None:
        """What we have has changed: the others are told soon."""
        self._untold = self.active
        self._want_status(now)

    def _want_status(self, now: float) -> None:
        """A Status soon; not so soon where it tells nothing new."""
        earliest = now if self._untold else max(now, self._told_at + STATUS_AGAIN_AFTER)
        if self._status_at > earliest + STATUS_LATEST * self._crowding:  # drawn once: the least of many isn't random
            jitter = STATUS_SOONEST + (STATUS_LATEST - STATUS_SOONEST) * self._fraction()
            self._status_at = earliest + jitter * self._crowding

    def _tell_status(self, now: float) -> None:
        self._status_number += 1
        own = StreamPosition(process_id=self.process_id, sequence=self._own.last)
        parts = status_parts(own, self._positions_of_others(), self._own.oldest, self._status_number, self._status_room)
        for index, body in enumerate(parts):
            self._queue([sign_fragment(self._user, self.conference_id, self.process_id, 0, index, len(parts), body)])
        self._untold, self._told_at = False, now
        self._status_at = now + STATUS_IDLE_FOR * (0.8 + 0.4 * self._fraction())

    def _positions_of_others(self) -> list[StreamPosition]:
        return [
            StreamPosition(process_id=stream.process_id, sequence=stream.incoming.complete) for stream in self._peers
        ]

    @property
    def _crowding(self) -> float:
        return max(1.0, len(self._peers) / CROWD)

    def _fraction(self) -> float:
        return int.from_bytes(self._random(2), "big") / 65_536


def _delivered(stream: PeerStream, whole: Whole) -> Delivered:
    begins_late = not stream.begun and whole.sequence > 1
    stream.begun = True
    return Delivered(
        user=stream.user,
        process_id=stream.process_id,
        sequence=whole.sequence,
        message=whole.message,
        raw=whole.raw,
        fragments=tuple(_with_chain(piece, stream) for piece in whole.fragments) if begins_late else whole.fragments,
        certificate=stream.identity.chain[0],
    )


def _equivocation(stream: PeerStream, one: Fragment, other: Fragment) -> Equivocated:
    """Evidence, once a stream: whoever signs two things may sign thousands."""
    if stream.equivocated:
        raise Rejected("equivocation")
    stream.equivocated = True
    return Equivocated(stream.user, (_with_chain(one, stream), other))


def _with_chain(fragment: Fragment, stream: PeerStream) -> Fragment:
    """A copy that proves itself: a signature covers the leaf's hash, not the chain."""
    out = Fragment()
    out.CopyFrom(fragment)
    out.ClearField("certificate_chain")
    out.certificate_chain.extend(stream.identity.chain)
    return out
