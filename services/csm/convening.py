"""Convening a conference (paper, section 3.4, initiator's first to fourth steps). Sans-I/O.

description signed -> create-session -> announcement signed -> announce-session -> groups joined
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcsa.conference_id import CONFERENCE_LABEL, conference_id_of
from mcsa.errors import Refused
from mcsa.identity import Credentials
from mcsa.sap.announcement import ANNOUNCEMENT_LABEL
from mcsa.v1 import msm_pb2
from mcsa.v1.csm_pb2 import ConveneRequest
from mcsa.v1.types_pb2 import ConferenceDescription, GroupDescription, SignedStatement
from services.csm.asking import Effects, ask_msm
from services.csm.setting import Setting
from services.csm.terms import CONTROL_GROUP, CONTROL_PORT, Terms, open_terms


@dataclass(eq=False)
class Convening:
    """One conference in the making. `done` is called once: with its terms, or with the refusal."""

    setting: Setting
    user: Credentials
    asked: ConveneRequest
    done: Callable[[Terms | None, Refused | None, float], Effects]
    traceparent: str | None = None

    def begin(self, now: float) -> Effects:
        """The Coordinator's description, signed, goes to the Authorizer first, into the directory second."""
        statement = self.user.sign_statement(CONFERENCE_LABEL, self._description(now).SerializeToString())
        message = msm_pb2.CreateSessionRequest(description=statement, access=self.asked.access)
        return [self._ask("create-session", message, lambda created, at: self._created(statement, created, at))]

    def _description(self, now: float) -> ConferenceDescription:
        asked = self.asked
        control = GroupDescription(name=CONTROL_GROUP, media="application", format="mcsa", port=CONTROL_PORT)
        groups = [control, *asked.groups]
        if asked.HasField("policy"):
            for group in groups:
                if not group.HasField("policy"):
                    group.policy.CopyFrom(asked.policy)
        return ConferenceDescription(
            title=asked.title,
            coordinator=str(self.user.id),
            policy_class=asked.policy_class,
            ckgds=asked.ckgds or self.setting.floor,
            groups=groups,
            start_s=asked.start_s or int(now),
            end_s=asked.end_s,
            repeats=asked.repeats,
            nonce=self.setting.random(16),
            authorizer=asked.authorizer or self.setting.authorizer,
        )

    def _created(self, statement: SignedStatement, created: msm_pb2.CreateSessionResponse, now: float) -> Effects:
        conference_id = conference_id_of(str(self.user.id), statement.statement)
        try:
            terms = open_terms(statement, created.groups, conference_id, self.setting.trust, now)
        except Refused as refused:
            return self._refused(refused, now)
        message = msm_pb2.AnnounceSessionRequest(
            unsigned_sdp=created.unsigned_sdp,
            signature=self.user.sign(ANNOUNCEMENT_LABEL, created.unsigned_sdp),
            signer_fingerprint=self.user.identity.fingerprint,
        )
        return [self._ask("announce-session", message, lambda _announced, at: self.done(terms, None, at))]

    def _refused(self, refusal: Refused, now: float) -> Effects:
        return self.done(None, refusal, now)

    def _ask(self, verb: str, message: Any, answered: Callable[[Any, float], Effects]) -> Any:
        return ask_msm(self.setting.host, verb, message, answered, self._refused, self.traceparent)
