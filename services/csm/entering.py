"""How a user of this host gets into a conference: by convening it, by joining it, or back after a restart. Sans-I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from google.protobuf.message import Message

from mcsa.endpoint import Count
from mcsa.errors import Refused
from mcsa.identity import Credentials
from mcsa.v1 import csm_pb2 as wire
from mcsa.v1 import msm_pb2
from mcsa.v1.types_pb2 import AccessControl, GroupDescription
from services.csm.asking import Effects, answer, ask_msm, refuse, verified_session, with_user
from services.csm.convening import Convening
from services.csm.events import ApplicationAsked, LoadUser, OpenRelay
from services.csm.joining import Joining
from services.csm.participant import LocalParticipant
from services.csm.participants import Participants
from services.csm.rejoining import Rejoining
from services.csm.setting import Setting
from services.csm.terms import Terms, open_terms

Answers = dict[bytes, msm_pb2.JoinGroupResponse]
COORDINATOR_RETURNS_AFTER = 1.0  # seconds from a Coordinator's restart to its next call: its groups are joined first


class Entering:
    """See the module."""

    def __init__(self, setting: Setting, participants: Participants) -> None:
        self._setting = setting
        self._participants = participants
        self.rejoining = Rejoining(setting.host, self.connected)

    # ---- convene, join, come back

    def convene(self, asked: ApplicationAsked, now: float) -> Effects:
        """`ConveneRequest`; its user is the Coordinator, whose host takes part in one of the schemes offered."""
        message: wire.ConveneRequest = asked.message
        floor = self._setting.floor
        if message.ckgds and not set(message.ckgds) & set(floor):
            sentence = f"this host takes part in none of {', '.join(message.ckgds)}; it does in {', '.join(floor)}"
            raise Refused("ckgds", "floor", sentence)

        def loaded(user: Credentials, now: float) -> Effects:
            def made(terms: Terms | None, refusal: Refused | None, now: float) -> Effects:
                if terms is None:
                    return [refuse(asked, refusal)]
                response = wire.ConveneResponse(conference_id=terms.conference_id, groups=terms.groups)

                def joined(answers: Answers, now: float) -> Effects:
                    participant = self._seat(asked, user, terms, message.access, now)
                    assert participant.coordination is not None
                    participant.coordination.wait_for(message.expected_users, now + message.wait_ms / 1000)
                    return [*self._begin(participant, answers, now), answer(asked, response)]

                authorizer = terms.description.authorizer
                return self._join_groups(asked, user, authorizer, terms.conference_id, terms.groups, joined)

            return Convening(self._setting, user, message, made, asked.traceparent).begin(now)

        return self._with_user(asked, loaded)

    def join(self, asked: ApplicationAsked, now: float) -> Effects:
        """`JoinRequest`: only what the directory heard, and what its Coordinator signed."""
        conference_id = asked.message.conference_id

        def loaded(user: Credentials, now: float) -> Effects:
            known = self._participants.live(conference_id, str(user.id))
            if known is not None:
                return [answer(asked, wire.JoinResponse(groups=known.terms.groups))]
            return [
                ask_msm(
                    self._setting.host,
                    "list-sessions",
                    msm_pb2.ListSessionsRequest(),
                    lambda listed, _at: self._found(asked, user, listed),
                    lambda refusal, _at: [refuse(asked, refusal)],
                    asked.traceparent,
                )
            ]

        return self._with_user(asked, loaded)

    def recover(self, state: wire.RememberedParticipation) -> Effects:
        """A participation of an earlier process: a new stream, a new registration, a new run; no old state."""

        def loaded(user: Credentials | None, _refusal: Refused | None, now: float) -> Effects:
            if user is None:
                return [Count("recovery.key-file")]
            try:
                terms = open_terms(state.description, list(state.groups), state.conference_id, self._setting.trust, now)
            except Refused as refused:
                return [Count(f"recovery.{refused.rule}")]
            access = state.access if state.HasField("access") else None
            participant = LocalParticipant(self._setting, user, state.user, terms, now, access)
            participant.ejected.update(state.ejected)
            self._participants.add(participant)
            if participant.coordination is not None:
                participant.coordination.wait_for((), now + COORDINATOR_RETURNS_AFTER)
            self.rejoining.want(participant, [group.group_id for group in terms.groups], now)
            return participant.begin(now)

        return [LoadUser(state.user, loaded)]

    # ---- the steps

    def _with_user(self, asked: ApplicationAsked, then: Callable[[Credentials, float], Effects]) -> Effects:
        self._participants.check_room()
        return with_user(asked, then)

    def _found(self, asked: ApplicationAsked, user: Credentials, listed: msm_pb2.ListSessionsResponse) -> Effects:
        wanted = asked.message.conference_id
        try:
            session = verified_session(listed, wanted)
        except Refused as refused:
            return [refuse(asked, refused)]

        def joined(answers: Answers, now: float) -> Effects:
            statement = answers[session.groups[0].group_id].description
            try:
                terms = open_terms(statement, session.groups, wanted, self._setting.trust, now)
            except Refused as refused:
                return [*self._leave(user, answers), refuse(asked, refused)]
            participant = self._seat(asked, user, terms, None, now)
            response = wire.JoinResponse(groups=terms.groups)
            return [*self._begin(participant, answers, now), answer(asked, response)]

        return self._join_groups(asked, user, session.authorizer, wanted, list(session.groups), joined)

    def _join_groups(
        self,
        asked: ApplicationAsked,
        user: Credentials,
        authorizer: str,
        conference_id: bytes,
        groups: Sequence[GroupDescription],
        then: Callable[[Answers, float], Effects],
    ) -> Effects:
        def done(answers: Answers, refusal: Refused | None, now: float) -> Effects:
            if refusal is not None:
                return [*self._leave(user, answers), refuse(asked, refusal)]
            return then(answers, now)

        return Joining(user, self._setting.host, authorizer, conference_id, groups, done, asked.traceparent).begin()

    def _seat(
        self, asked: ApplicationAsked, user: Credentials, terms: Terms, access: AccessControl | None, now: float
    ) -> LocalParticipant:
        participant = LocalParticipant(self._setting, user, asked.message.user, terms, now, access)
        participant.trace = asked.traceparent
        self._participants.add(participant)
        return participant

    def _begin(self, participant: LocalParticipant, answers: Answers, now: float) -> Effects:
        return [*self.connected(participant, answers, now), *participant.begin(now)]

    def connected(self, participant: LocalParticipant, answers: Answers, now: float) -> Effects:
        """Groups were joined (again): their local sockets, and who is in the control group."""
        for group in participant.terms.groups:
            if group.group_id in answers:
                participant.sockets[group.name] = answers[group.group_id].socket_path
        moved = participant.moved({group_id: answer.address for group_id, answer in answers.items()})
        rosters: Effects = []
        for group_id, answered in answers.items():
            rosters += participant.roster_changed(group_id, answered.roster, now)
        group_id = participant.terms.control.group_id
        if group_id not in answers:
            return [*moved, *rosters]
        return [*moved, OpenRelay(group_id, answers[group_id].socket_path), *rosters]

    def _leave(self, user: Credentials, joined: Iterable[bytes]) -> Effects:
        """What was joined of a join that failed as a whole."""
        effects: list[Any] = []
        for group_id in joined:
            message: Message = msm_pb2.LeaveGroupRequest(group_id=group_id, user=str(user.id))
            effects.append(
                ask_msm(
                    self._setting.host,
                    "leave-group",
                    message,
                    lambda _message, _now: [],
                    lambda refusal, _now: [Count(f"unanswered.{refusal.code}")],
                )
            )
        return effects
