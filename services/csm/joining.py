"""Taking a user into groups through the MSM: prepare, sign, join, for each group. Sans-I/O.

The user's key never leaves the CSM: the MSM says what is to be signed, the CSM signs it, the MSM takes it to the
Authorizer. The same steps serve the first join, and each registration after a restart or a lost update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcsa.errors import Refused
from mcsa.identity import Credentials
from mcsa.registration import sign_user_statement
from mcsa.v1 import msm_pb2
from mcsa.v1.authorizer_pb2 import UserStatement
from mcsa.v1.types_pb2 import GroupDescription
from services.csm.asking import ask_msm

JOIN_WITHIN = 15.0  # seconds for one registration, including the batch at the Authorizer


@dataclass(eq=False)
class Joining:
    """One user, one conference, its groups. `done` is called once, with the answers (`JoinGroupResponse`) by group or
    with the refusal."""

    user: Credentials
    host: str
    authorizer: str
    conference_id: bytes
    groups: Sequence[GroupDescription]
    done: Callable[[dict[bytes, Any], Refused | None, float], list[Any]]
    traceparent: str | None = None
    send_only: bool = False  # no membership: `OpenSendingResponse`s come
    _answers: dict[bytes, Any] = field(default_factory=dict)
    _failed: bool = False

    def begin(self) -> list[Any]:
        """All groups side by side."""
        effects = []
        for group in self.groups:
            asked = msm_pb2.PrepareJoinRequest(
                group_id=group.group_id,
                hpke_suite=group.policy.hpke,
                authorizer=self.authorizer,
                send_only=self.send_only,
            )
            effects.append(self._ask("prepare-join", asked, self._prepared(group)))
        return effects

    def _prepared(self, group: GroupDescription) -> Callable[[Any, float], list[Any]]:
        """The statement to sign: only one for this host, group and Authorizer gets the user's name."""

        def sign(response: msm_pb2.PrepareJoinResponse, now: float) -> list[Any]:
            statement = UserStatement.FromString(response.statement)
            said = (statement.host, statement.group_id, statement.authorizer, statement.send_only)
            if said != (self.host, group.group_id, self.authorizer, self.send_only):
                return self._refused(Refused("user-statement", "meaning", "the MSM asked to sign for another"), now)
            request = msm_pb2.OpenSendingRequest if self.send_only else msm_pb2.JoinGroupRequest
            asked = request(
                group=group,
                authorizer=self.authorizer,
                conference_id=self.conference_id,
                user_statement=sign_user_statement(self.user, response.statement),
                user=str(self.user.id),
            )
            verb = "open-sending" if self.send_only else "join-group"
            return [self._ask(verb, asked, self._joined(group))]

        return sign

    def _joined(self, group: GroupDescription) -> Callable[[Any, float], list[Any]]:
        def count(response: Any, now: float) -> list[Any]:
            self._answers[group.group_id] = response
            if self._failed or len(self._answers) < len(self.groups):
                return []
            return self.done(self._answers, None, now)

        return count

    def _refused(self, refusal: Refused, now: float) -> list[Any]:
        """One of the steps was refused: the join is, as a whole."""
        if self._failed:
            return []
        self._failed = True
        return self.done(self._answers, refusal, now)

    def _ask(self, verb: str, message: Any, answered: Callable[[Any, float], list[Any]]) -> Any:
        return ask_msm(self.host, verb, message, answered, self._refused, self.traceparent, JOIN_WITHIN)
