"""Moving a conference to other addresses, after a clash or at its Coordinator's word. Sans-I/O.

relocation signed -> move-session (the Authorizer gives addresses, the groups begin anew there) -> announcement signed
-> announce-session (which withdraws the one before) -> members register again, each by itself
"""

from __future__ import annotations

from collections.abc import Callable

from mcsa.endpoint import Count
from mcsa.errors import Refused
from mcsa.sap.announcement import ANNOUNCEMENT_LABEL
from mcsa.statements import RELOCATION_LABEL
from mcsa.v1 import msm_pb2
from mcsa.v1.authorizer_pb2 import Relocation
from services.csm.asking import Effects, ask_msm
from services.csm.participant import LocalParticipant

MOVES = 3  # of one conference by itself: who forges clashes can't keep it moving
AGAIN_AFTER = 60.0  # seconds between two of them

Done = Callable[[Refused | None, float], Effects]


class Moving:
    """The conferences of a host that move."""

    def __init__(self) -> None:
        self._moved: dict[bytes, list[float]] = {}  # by themselves, by conference

    def clashes(self, participant: LocalParticipant, remark: str, *, move: bool, now: float) -> Effects:
        """Another session uses an address of this one's. It moves only while nobody else is in it: who is there already
        is not interrupted but at its Coordinator's word."""
        told = participant.changed_clash(remark)
        moved = self._moved.setdefault(participant.conference_id, [])
        alone = participant.coordination is not None and participant.coordination.is_alone
        if not move or not alone or participant.ending.under_way:
            return told
        if len(moved) >= MOVES or (moved and now < moved[-1] + AGAIN_AFTER):
            return [*told, Count("moves.too-many")]
        moved.append(now)

        def done(refusal: Refused | None, _now: float) -> Effects:
            return [Count("moves.done" if refusal is None else f"moves.{refusal.code}")]

        return [*told, *self.begin(participant, done, now)]

    def begin(self, participant: LocalParticipant, done: Done, now: float) -> Effects:
        """Calls `done` once, when it is announced, or with the refusal."""
        terms, host = participant.terms, participant.setting.host
        relocation = Relocation(
            conference_id=participant.conference_id,
            addresses=[group.address for group in terms.groups],
            time_ms=round(now * 1000),
        )
        message = msm_pb2.MoveSessionRequest(
            relocation=participant.user.sign_statement(RELOCATION_LABEL, relocation.SerializeToString()),
            description=terms.statement,
        )

        def refused(refusal: Refused, at: float) -> Effects:
            return done(refusal, at)

        def announced(_response: msm_pb2.AnnounceSessionResponse, at: float) -> Effects:
            return done(None, at)

        def moved(response: msm_pb2.MoveSessionResponse, at: float) -> Effects:
            text = response.unsigned_sdp
            message = msm_pb2.AnnounceSessionRequest(
                unsigned_sdp=text,
                signature=participant.user.sign(ANNOUNCEMENT_LABEL, text),
                signer_fingerprint=participant.user.identity.fingerprint,
            )
            addresses = {group.group_id: group.address for group in response.groups}
            return [
                *participant.changed_clash(""),
                *participant.moved(addresses),
                ask_msm(host, "announce-session", message, announced, refused, participant.trace),
            ]

        return [ask_msm(host, "move-session", message, moved, refused, participant.trace)]
