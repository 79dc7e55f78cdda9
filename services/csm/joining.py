"""Taking a user into groups through the MSM: prepare, sign, join, for each group. Sans-I/O.

The user's key never leaves the CSM: the MSM says what is to be signed, the CSM signs it, the MSM takes it to the
Authorizer. The same steps serve the first join, and each registration after a restart or a lost update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcsa import subjects
from mcsa.endpoint import Request
from mcsa.errors import Refused
from mcsa.identity import Credentials
from mcsa.registration import sign_user_statement
from mcsa.v1 import msm_pb2
from mcsa.v1.authorizer_pb2 import UserStatement
from mcsa.v1.types_pb2 import GroupDescription

JOIN_WITHIN = 15.0  # seconds for one registration, including the batch at the Authorizer


@dataclass(frozen=True, slots=True)
class Prepared:
    """Token of a PrepareJoin."""

    joining: Joining
    group_id: bytes


@dataclass(frozen=True, slots=True)
class Joined:
    """Token of a JoinGroup."""

    joining: Joining
    group_id: bytes


@dataclass(eq=False)
class Joining:
    """One user, one conference, its groups. `done` is called once, with the answers by group or with the refusal."""

    user: Credentials
    host: str
    authorizer: str
    conference_id: bytes
    groups: Sequence[GroupDescription]
    done: Callable[[dict[bytes, msm_pb2.JoinGroupResponse], Refused | None, float], list[Any]]
    traceparent: str | None = None
    _answers: dict[bytes, msm_pb2.JoinGroupResponse] = field(default_factory=dict)
    _failed: bool = False

    def begin(self) -> list[Any]:
        """All groups side by side."""
        return [
            self._ask(
                "prepare-join",
                msm_pb2.PrepareJoinRequest(
                    group_id=group.group_id, hpke_suite=group.policy.hpke, authorizer=self.authorizer
                ),
                Prepared(self, group.group_id),
            )
            for group in self.groups
        ]

    def prepared(self, group_id: bytes, response: msm_pb2.PrepareJoinResponse, now: float) -> list[Any]:
        """The statement to sign: only one for this host, group and Authorizer gets the user's name."""
        statement = UserStatement.FromString(response.statement)
        meant = (statement.host, statement.group_id, statement.authorizer) == (self.host, group_id, self.authorizer)
        if not meant:
            return self.failed(Refused("user-statement", "meaning", "the MSM asked the user to sign for another"), now)
        group = next(group for group in self.groups if group.group_id == group_id)
        message = msm_pb2.JoinGroupRequest(
            group=group,
            authorizer=self.authorizer,
            conference_id=self.conference_id,
            user_statement=sign_user_statement(self.user, response.statement),
            user=str(self.user.id),
        )
        return [self._ask("join-group", message, Joined(self, group_id))]

    def joined(self, group_id: bytes, response: msm_pb2.JoinGroupResponse, now: float) -> list[Any]:
        """One more group."""
        self._answers[group_id] = response
        if self._failed or len(self._answers) < len(self.groups):
            return []
        return self.done(self._answers, None, now)

    def failed(self, refusal: Refused, now: float) -> list[Any]:
        """One of the steps was refused: the join is, as a whole."""
        if self._failed:
            return []
        self._failed = True
        return self.done(self._answers, refusal, now)

    def _ask(self, verb: str, message: Any, token: object) -> Request:
        return Request(subjects.MSM, verb, message, self.host, token, JOIN_WITHIN, self.traceparent)
