"""Sessions as the MSM sees them: created at the Authorizer, announced and heard through the directory.

An announcement is a hint. It is marked verified only where its text was signed by the Coordinator whose certificate the
Authorizer gave, that Authorizer is one that this host accepts for those addresses, and it names what it should.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from mcsa import subjects
from mcsa.conference_id import CONFERENCE_LABEL
from mcsa.endpoint import Answer, Answered, Failed, Refuse, Request, Requested
from mcsa.errors import Refused, Rejected
from mcsa.identity import Credentials, Identity
from mcsa.sap.announcement import (
    ANNOUNCEMENT_LABEL,
    check_description,
    describe,
    parse_announcement,
    split_signature,
)
from mcsa.sap.sdp import parse_sdp
from mcsa.trust import Trust
from mcsa.v1 import authorizer_pb2 as authorizer_wire
from mcsa.v1 import msm_pb2 as wire
from mcsa.v1 import sd_pb2 as sd_wire
from mcsa.v1.types_pb2 import ConferenceDescription, SignedStatement
from services.msm.announcing import Announcing
from services.msm.gpad import Gpad

CERTIFICATE_WITHIN = 2.0  # seconds to wait for a certificate before a session is listed without
COORDINATORS_KEPT = 1_000
ASKED_AT_ONCE = 32  # certificates of Coordinators that one listing asks an Authorizer for
UNKNOWN_FOR = 60.0  # seconds that an Authorizer isn't asked again for a conference that it didn't know
IN_USE_WITHIN = 2.0  # seconds to wait for the directory before addresses are asked for without its knowledge
IN_USE_TOLD = 1_024  # addresses in one request
CLASHES_TOLD = 4  # of one session
LISTED = 400 * 1024  # bytes of a list; an envelope has at most 512 KiB

Named = tuple[str, bytes]  # an Authorizer, and a conference's id: each speaks for its own conferences only


@dataclass(slots=True)
class _Listing:
    """A list being made."""

    token: object
    sessions: list[wire.Session]
    waiting: set[Named] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Listed:
    listing: int


@dataclass(frozen=True, slots=True)
class _Certified:
    listing: int
    named: Named


@dataclass(frozen=True, slots=True)
class _InUse:
    """Addresses that others use, for what comes next."""

    then: Callable[[list[str]], list[Any]]


class Sessions:
    """See the module."""

    def __init__(
        self,
        credentials: Credentials,
        trust: Trust,
        directory: str,
        gpad: Gpad,
        announcing: Announcing,
    ) -> None:
        self._announcing = announcing
        self._unknown: dict[Named, float] = {}
        self._reached: set[str] = set()  # Authorizers that have answered
        self._newest: dict[Named, int] = {}  # version of the newest description that was verified
        self._credentials = credentials
        self._trust = trust
        self._directory = directory
        self._gpad = gpad
        self._listings: dict[int, _Listing] = {}
        self._next = 0
        self._coordinators: dict[Named, Identity] = {}

    # ---- making

    def open_description(self, signed: SignedStatement, now: float) -> ConferenceDescription:
        """A description that its Coordinator signed; `Refused` otherwise."""
        try:
            self._trust.open_statement(signed, CONFERENCE_LABEL, now, peers=True)
            description = ConferenceDescription.FromString(signed.statement)
        except (Rejected, DecodeError) as error:
            raise Refused("description", "signature", f"the description was not accepted: {error}") from None
        check_description(description)
        return description

    def find_in_use(self, then: Callable[[list[str]], list[Any]], traceparent: str | None) -> list[Any]:
        """Calls `then` with the multicast addresses that the directory has heard of, as far as it answers in time:
        verified or not, since who is there first is there."""
        token, within = _InUse(then), IN_USE_WITHIN
        message = sd_wire.ListRequest()
        return [Request(subjects.SD, "list", message, self._directory, token, within, traceparent, only_if_served=True)]

    def created(
        self,
        description: ConferenceDescription,
        serving: str,
        created: authorizer_wire.CreateResponse,
        address: str,
        now: float,
    ) -> wire.CreateSessionResponse:
        """What the CSM gets, with the text for the Coordinator to sign; `serving` is the Authorizer that answered."""
        for group in created.groups:
            try:
                if self._gpad.serving(description.authorizer, group.address) != serving:
                    raise Rejected("gpad", f"{group.address} is not for {serving} to key here; see `accepts`")
            except Refused as refused:
                raise Rejected("gpad", refused.sentence) from None
        version = round(now)
        text = describe(
            description,
            created.conference_id,
            created.groups,
            origin_address=address,
            version=version,
            withdrawal=self._announcing.commitment(created.conference_id, version),
        )
        return wire.CreateSessionResponse(conference_id=created.conference_id, groups=created.groups, unsigned_sdp=text)

    # ---- hearing

    def list_sessions(self, request: Requested, now: float) -> list[Any]:
        """`ListSessions`: what the directory heard, then the certificates that are missing, then the answer."""
        self._next += 1
        self._listings[self._next] = _Listing(request.token, [])
        token, message = _Listed(self._next), sd_wire.ListRequest()
        return [Request(subjects.SD, "list", message, self._directory, token, traceparent=request.traceparent)]

    def answered(self, event: Answered, now: float) -> list[Any]:
        """An answer to one of the requests made here."""
        token = event.token
        if isinstance(token, _InUse):
            return token.then(_addresses(event.message))
        if isinstance(token, _Listed):
            return self._heard(token.listing, event.message, now)
        if isinstance(token, _Certified):
            self._reached.add(str(event.sender.id))
            self._learn(token.named, event.message, now)
            return self._finish(token.listing, token.named)
        raise TypeError(token)

    def failed(self, event: Failed, now: float) -> list[Any]:
        """One of them was refused, or nobody answered."""
        token = event.token
        if isinstance(token, _InUse):
            return token.then([])
        if isinstance(token, _Listed):
            return [Refuse(self._listings.pop(token.listing).token, event.refusal)]
        if isinstance(token, _Certified):
            if event.refusal.code not in ("no-answer", "nobody-serves"):
                if len(self._unknown) >= COORDINATORS_KEPT:
                    self._unknown.clear()
                self._unknown[token.named] = now + UNKNOWN_FOR
            return self._finish(token.listing, token.named)
        raise TypeError(token)

    def _heard(self, number: int, response: sd_wire.ListResponse, now: float) -> list[Any]:
        listing = self._listings[number]
        effects: list[Any] = []
        for announcement in response.sessions:
            try:
                session = parse_announcement(announcement.sdp, now)
            except Rejected:
                continue  # the directory counts these
            session.announcement.CopyFrom(announcement)
            listing.sessions.append(session)
            serving = self._serving(session)
            if serving and self._is_to_be_asked_for(session, listing, now):
                listing.waiting.add(_named(session))
                effects.append(
                    Request(
                        subjects.AUTHORIZER,
                        "certificate",
                        authorizer_wire.CertificateRequest(
                            conference_id=session.conference_id, home=session.authorizer
                        ),
                        serving,
                        _Certified(number, _named(session)),
                        within=CERTIFICATE_WITHIN,
                        # anybody can name an Authorizer that isn't there; one that was is waited for
                        only_if_served=serving not in self._reached,
                    )
                )
        return effects or self._finish(number)

    def _is_to_be_asked_for(self, session: wire.Session, listing: _Listing, now: float) -> bool:
        """Anybody can announce in the name of an Authorizer: what it didn't know a while ago it isn't asked again, and
        one listing asks for so many."""
        named = _named(session)
        if not session.conference_id or named in self._coordinators or named in listing.waiting:
            return False
        return now >= self._unknown.get(named, 0.0) and len(listing.waiting) < ASKED_AT_ONCE

    def _finish(self, number: int, named: Named | None = None) -> list[Any]:
        listing = self._listings[number]
        if named is not None:
            listing.waiting.discard(named)
        if listing.waiting:
            return []
        del self._listings[number]
        for session in listing.sessions:
            session.remark = self._remark(session)
            session.verified = not session.remark
        self._supersede(listing.sessions)
        sessions = _each_once(listing.sessions)
        _tell_clashes(sessions)
        return [Answer(listing.token, wire.ListSessionsResponse(sessions=_as_fit(sessions)))]

    def _supersede(self, sessions: list[wire.Session]) -> None:
        """Of what a Coordinator signed for one conference only the newest holds, whoever repeats the others."""
        verified = [session for session in sessions if session.verified]
        for session in verified:
            if len(self._newest) >= COORDINATORS_KEPT and _named(session) not in self._newest:
                self._newest.pop(next(iter(self._newest)))
            self._newest[_named(session)] = max(session.version, self._newest.get(_named(session), 0))
        for session in verified:
            if session.version < self._newest.get(_named(session), 0):
                session.verified, session.remark = False, "its Coordinator has announced a newer description since"

    def _learn(self, named: Named, response: authorizer_wire.CertificateResponse, now: float) -> None:
        try:
            coordinator = self._trust.verify_chain(response.coordinator_chain, now, ("user",), peers=True)
        except Rejected:
            return
        if len(self._coordinators) >= COORDINATORS_KEPT:
            self._coordinators.clear()
        self._coordinators[named] = coordinator

    def _serving(self, session: wire.Session) -> str:
        """Whom this host would ask about it; empty where its Authorizer is not accepted for all its addresses."""
        try:
            return self._gpad.serving_all(session.authorizer, [group.address for group in session.groups])
        except Refused:
            return ""

    def _remark(self, session: wire.Session) -> str:
        """Why a session is not verified; empty where it is."""
        if not session.conference_id:
            return "not one of ours"
        if not self._serving(session):
            return "its Authorizer is not one that this host accepts for these addresses"
        signed = split_signature(session.announcement.sdp)
        coordinator = self._coordinators.get(_named(session))
        if signed is None:
            return "not signed"
        if coordinator is None:
            return "its Authorizer does not know it, or is out of reach"
        if str(coordinator.id) != session.coordinator:
            return "names another Coordinator than its Authorizer does"
        try:
            coordinator.check_signature(signed.signature, ANNOUNCEMENT_LABEL, signed.text)
        except Rejected:
            return "its signature is not the Coordinator's"
        return ""


def _named(session: wire.Session) -> Named:
    return session.authorizer, session.conference_id


def _each_once(sessions: list[wire.Session]) -> list[wire.Session]:
    """Several may announce one session (RFC 2974, section 3), and a host may have another address than before: of those
    that a Coordinator signed alike the one that was heard last is shown."""
    last = {_named(session): session for session in sessions if session.verified}
    return [session for session in sessions if not session.verified or session is last[_named(session)]]


def _as_fit(sessions: list[wire.Session]) -> list[wire.Session]:
    """Those that fit into an envelope, the verified ones before the rest: a flood of others hides none of ours."""
    room = LISTED
    fitting: set[int] = set()
    for session in sorted(sessions, key=lambda session: not session.verified):
        room -= session.ByteSize() + 8
        if room < 0:
            break
        fitting.add(id(session))
    return [session for session in sessions if id(session) in fitting]


def _addresses(response: sd_wire.ListResponse) -> list[str]:
    """Multicast addresses of what was heard, as many as are told; who takes many at once is told of last."""
    found: dict[str, None] = {}
    addresses = []
    for announcement in response.sessions:
        try:
            addresses.append(parse_sdp(announcement.sdp).addresses())
        except Rejected:
            continue  # the directory counts these
    for some in sorted(addresses, key=len):
        found.update(dict.fromkeys(sorted(some)))
    return list(found)[:IN_USE_TOLD]


def _tell_clashes(sessions: list[wire.Session]) -> None:
    """Of each verified session the others that use an address of its."""
    users: dict[str, list[wire.Session]] = {}
    for session in sessions:
        for address in {group.address for group in session.groups}:
            users.setdefault(address, []).append(session)
    for session in sessions:
        if session.verified:
            for address in {group.address for group in session.groups}:
                others = [each for each in users[address] if each.conference_id != session.conference_id]
                more = [f"{address}: {each.title or 'untitled'} from {each.announcement.source}" for each in others]
                session.clashes.extend(more[: CLASHES_TOLD - len(session.clashes)])
