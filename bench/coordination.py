"""What CSMs do, without their processes: convenes, joins and ejects, as every host's CSM over one bus connection.

The broker lets this connection ask every MSM; what an MSM believes is the signature of its own host on each request.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from mcsa import subjects
from mcsa.broker import ANY, Grant
from mcsa.conference_id import CONFERENCE_LABEL
from mcsa.envelope import Expected, parse_envelope, sign_envelope, type_name
from mcsa.errors import Refused
from mcsa.identity import Credentials
from mcsa.registration import sign_user_statement
from mcsa.shell.bus import Bus
from mcsa.shell.nkeys import NkeySeed
from mcsa.statements import EVICTION_LABEL
from mcsa.trust import Trust
from mcsa.v1 import authorizer_pb2 as authorizer_wire
from mcsa.v1 import msm_pb2 as wire
from mcsa.v1.envelope_pb2 import Refusal
from mcsa.v1.types_pb2 import (
    POLICY_CLASS_CLOSED,
    AccessControl,
    ConferenceDescription,
    GroupDescription,
    GroupPolicy,
)

NAME = "bench"  # on the bus
ANSWER_WITHIN = 20.0  # seconds


def coordination_grant(seed: NkeySeed) -> Grant:
    """The broker's permission for this."""
    return Grant(seed.public, NAME, [subjects.subject(subjects.MSM, ANY, ANY)], [])


class Coordination:
    """One conference with one group, and its Coordinator, whose host is the first."""

    def __init__(
        self, bus: Bus, trust: Trust, authorizer: str, coordinator: Credentials, hosts: Sequence[Credentials]
    ) -> None:
        self._bus = bus
        self._trust = trust
        self._authorizer = authorizer
        self._coordinator = coordinator
        self._hosts = hosts
        self._conference_id = b""
        self._group = GroupDescription()

    async def convene(self, users: Sequence[Credentials], gkm: str) -> None:
        """A closed conference of these users."""
        group = GroupDescription(
            name="control", media="application", format="mcsa", port=5004, policy=GroupPolicy(gkm=gkm)
        )
        description = ConferenceDescription(
            title="bench",
            coordinator=str(self._coordinator.id),
            policy_class=POLICY_CLASS_CLOSED,
            groups=[group],
            authorizer=self._authorizer,
            nonce=os.urandom(16),
        )
        signed = self._coordinator.sign_statement(CONFERENCE_LABEL, description.SerializeToString())
        access = AccessControl(acceptable_users=[str(user.id) for user in users])
        request = wire.CreateSessionRequest(description=signed, access=access)
        created: wire.CreateSessionResponse = await self._ask(0, "create-session", request)
        self._conference_id, [self._group] = created.conference_id, list(created.groups)

    async def join(self, host: int, user: Credentials) -> int:
        """The epoch in which this host came in for this user."""
        asked = wire.PrepareJoinRequest(group_id=self._group.group_id, authorizer=self._authorizer)
        prepared: wire.PrepareJoinResponse = await self._ask(host, "prepare-join", asked)
        request = wire.JoinGroupRequest(
            group=self._group,
            authorizer=self._authorizer,
            conference_id=self._conference_id,
            user_statement=sign_user_statement(user, prepared.statement),
            user=str(user.id),
        )
        joined: wire.JoinGroupResponse = await self._ask(host, "join-group", request)
        return joined.epoch

    async def leave(self, host: int, user: Credentials) -> None:
        """Has the host close a group that it was thrown out of."""
        await self._ask(host, "leave-group", wire.LeaveGroupRequest(group_id=self._group.group_id, user=str(user.id)))

    async def eject(self, user: Credentials) -> int:
        """Throws a user out, by the Coordinator's signature; the epoch in which that is done."""
        eviction = authorizer_wire.Eviction(
            conference_id=self._conference_id, subject=str(user.id), time_ms=round(time.time() * 1000)
        )
        signed = self._coordinator.sign_statement(EVICTION_LABEL, eviction.SerializeToString())
        request = wire.EvictMemberRequest(
            conference_id=self._conference_id, eviction=signed, authorizer=self._authorizer
        )
        evicted: wire.EvictMemberResponse = await self._ask(0, "evict-member", request)
        [epoch] = evicted.epochs
        return epoch

    async def _ask(self, host: int, verb: str, message: Message) -> Any:
        """What the MSM of a host answers its CSM; `Refused` as it says."""
        own, method = self._hosts[host], subjects.SERVICES[subjects.MSM][verb]
        name = str(own.id)
        raw, asked = sign_envelope(own, message, name, os.urandom(16), time.time() + ANSWER_WITHIN)
        answer = await self._bus.request(subjects.subject(subjects.MSM, own.id.token, verb), raw, ANSWER_WITHIN)
        types = {type_name(kind): kind for kind in (method.response, Refusal)}
        verified = parse_envelope(answer).verify(self._trust, Expected([name], types, ["host"], asked), time.time())
        if isinstance(verified.message, Refusal):
            raise Refused(verified.message.code, verified.message.rule, verified.message.sentence)
        return verified.message
