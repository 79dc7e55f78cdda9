"""A domain for benchmarks: an Authorizer on its endpoint, hosts with a user each, and registrations ready to arrive."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from google.protobuf.message import Message

from mcsa import subjects
from mcsa.authority import CertificationAuthority
from mcsa.conference_id import CONFERENCE_LABEL
from mcsa.endpoint import Endpoint
from mcsa.envelope import sign_envelope
from mcsa.gkm import scheme_named
from mcsa.identity import Credentials
from mcsa.policy import DEFAULTS
from mcsa.registration import sign_user_statement
from mcsa.sealing import SealingKey
from mcsa.trust import Trust
from mcsa.v1 import authorizer_pb2 as wire
from mcsa.v1.types_pb2 import POLICY_CLASS_CLOSED, AccessControl, ConferenceDescription, GroupDescription
from services.authorizer.core import AuthorizerCore, Settings
from services.authorizer.events import Append, Appended

LIFETIME = 55.0  # seconds of requests: less than the longest allowed, whatever the clock does meanwhile


FIRST_ADDRESS = IPv4Address("198.18.0.1")  # of the range for benchmarks (RFC 2544)


@dataclass(frozen=True, slots=True)
class Seat:
    """A host, the user it speaks for, and its address."""

    host: Credentials
    user: Credentials
    address: str


class Domain:
    """One authority, one Authorizer, so many seats; `now` stands still but for the batches."""

    def __init__(self, seats: int) -> None:
        self.now = time.time()
        self.authority = CertificationAuthority.create("bench.example", self.now)
        self.authorizer = self.authority.issue("authorizer", "main", self.now)
        self.seats = [self._seat(number) for number in range(seats)]

    def _seat(self, number: int) -> Seat:
        address = str(FIRST_ADDRESS + number)  # no two hosts may claim the same
        return Seat(self._issue("host", number), self._issue("user", number), address)

    def _issue(self, kind: str, number: int) -> Credentials:
        return self.authority.issue(kind, f"{kind}-{number}", self.now)

    def trust(self) -> Trust:
        """That has seen nobody yet."""
        return Trust(self.authority.domain, [self.authority.certificate])

    def endpoint(self, trust: Trust) -> Endpoint:
        """An Authorizer without conferences."""
        core = AuthorizerCore(self.authorizer, trust, os.urandom, Settings())
        token = self.authorizer.id.token
        return Endpoint(subjects.AUTHORIZER, token, self.authorizer, trust, core, os.urandom)

    def stored(self, endpoint: Endpoint, effects: list[Any]) -> list[Any]:
        """These effects and those that follow, with a store that takes what it is given and no time."""
        for effect in effects:
            if isinstance(effect, Append):
                effects += endpoint.handle(Appended(effect.log), self.now)
        return effects

    def convene(self, endpoint: Endpoint, seats: list[Seat]) -> bytes:
        """A closed conference of these seats with one group; its id."""
        coordinator = seats[0].user
        description = ConferenceDescription(
            title=f"bench {os.urandom(4).hex()}",
            coordinator=str(coordinator.id),
            policy_class=POLICY_CLASS_CLOSED,
            groups=[GroupDescription(name="control", media="application", format="mcsa", port=5004)],
            authorizer=str(self.authorizer.id),
            nonce=os.urandom(16),
        )
        signed = coordinator.sign_statement(CONFERENCE_LABEL, description.SerializeToString())
        access = AccessControl(acceptable_users=[str(seat.user.id) for seat in seats])
        core = endpoint.core
        assert isinstance(core, AuthorizerCore)
        known = set(core.groups)
        request = wire.CreateRequest(description=signed, access=access)
        subject, raw = self._arrival("create", seats[0].host, request)
        self.stored(endpoint, endpoint.request_arrived(subject, raw, None, self.now))
        [group_id] = set(core.groups) - known
        return group_id

    def registration(self, seat: Seat, group_id: bytes) -> tuple[str, bytes]:
        """Subject and bytes of a registration with fresh keys."""
        key = SealingKey.generate(DEFAULTS.hpke)
        statement = wire.UserStatement(
            host=str(seat.host.id),
            hpke_public_key=key.public,
            group_id=group_id,
            authorizer=str(self.authorizer.id),
            nonce=os.urandom(16),
            expires_ms=int((self.now + LIFETIME) * 1000),
        )
        request = wire.RegisterRequest(
            group_id=group_id,
            hpke_public_key=key.public,
            hpke_suite=key.suite,
            user_statement=sign_user_statement(seat.user, statement.SerializeToString()),
            sender=True,
            address=seat.address,
            gkm_contribution=scheme_named(DEFAULTS.gkm).begin(os.urandom).contribution,
        )
        return self._arrival("register", seat.host, request)

    def _arrival(self, verb: str, host: Credentials, request: Message) -> tuple[str, bytes]:
        subject = subjects.subject(subjects.AUTHORIZER, host.id.token, verb)
        return subject, sign_envelope(host, request, str(self.authorizer.id), os.urandom(16), self.now + LIFETIME).raw
