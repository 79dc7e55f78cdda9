"""The CSM's decisions (paper, section 3.2): who on this host is in which conference, with which keys. Sans-I/O.

applications -> ApplicationAsked -> verbs below -> requests to the MSM -> AnswerApplication
control group -> ControlArrived -> each local participant of that conference
MSM -> GroupChanged, RelayLost -> rosters, ejections, registrations anew
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from mcsa.endpoint import Answered, Count, Failed, Published, Requested, Woken
from mcsa.errors import Refused
from mcsa.statements import EVICTION_LABEL
from mcsa.v1 import csm_pb2 as wire
from mcsa.v1 import msm_pb2
from mcsa.v1.authorizer_pb2 import Eviction
from mcsa.v1.conference_pb2 import ControlMessage, Ejection, SealedMessage
from services.csm import transitions as life
from services.csm.asking import Continuation, Effects, answer, ask_msm, refuse
from services.csm.entering import Entering
from services.csm.events import (
    ApplicationAsked,
    ApplicationGone,
    CloseRelay,
    ControlArrived,
    Recovered,
    RelayLost,
    SendControl,
    TellApplication,
    UserLoaded,
)
from services.csm.moving import Moving
from services.csm.participant import LocalParticipant
from services.csm.participants import Participants
from services.csm.sending_only import SendingOnly
from services.csm.setting import Setting

LARGEST_SHOWN = 1_000_000  # bytes of a record that goes over the application socket; the file has it all
LARGEST_SEALED = 60_000  # bytes of a sealed message; what is larger belongs into a group of its own


class CsmCore:
    """See the module."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.participants = Participants()
        self._entering = Entering(setting, self.participants)
        self._moving = Moving()
        self._sending_only = SendingOnly(setting)
        self._verbs: dict[str, Callable[[ApplicationAsked, float], Effects]] = {
            "list-sessions": self._list_sessions,
            "convene": self._entering.convene,
            "join": self._entering.join,
            "send-only": self._sending_only.begin,
            "end-send-only": self._sending_only.end,
            "call": self._call,
            "list-conferences": self._list_conferences,
            "attach": self._attach,
            "send": self._send,
            "eject": self._eject,
            "move": self._move,
            "leave": self._leave,
            "show-record": self._show_record,
            "describe-groups": self._describe_groups,
        }

    # ---- the core's interface

    def handle(self, event: Any, now: float) -> Effects:
        """See `mcsa.endpoint.Core`."""
        effects = [*self._handle(event, now), *self._outgoing(now)]
        return [effect for effect in effects if not (isinstance(effect, CloseRelay) and self._in_use(effect.group_id))]

    def _handle(self, event: Any, now: float) -> Effects:
        match event:
            case ApplicationAsked():
                return self._asked(event, now)
            case ControlArrived():
                return self._arrived(event.group_id, event.datagram, now)
            case Answered(token=Continuation() as then):
                return then.answered(event.message, now)
            case Failed(token=Continuation() as then):
                return then.refused(event.refusal, now)
            case UserLoaded():
                return event.then(event.credentials, event.refusal, now)
            case Published():
                return self._published(event, now)
            case RelayLost():
                return self._relay_lost(event.group_id, now)
            case ApplicationGone():
                for participant in self.participants:
                    participant.attached.gone(event.connection)
                return []
            case Recovered():
                return [effect for state in event.participations for effect in self._recover(state)]
            case Woken():
                return self._woken(now)
            case Requested():
                return []  # the CSM answers nobody on the bus
        raise TypeError(event)

    def reauthorise(self, request: Requested, now: float) -> None:
        """See `mcsa.endpoint.Core`; a CSM answers nobody on the bus."""

    def wake_at(self) -> float | None:
        """See `mcsa.endpoint.Core`."""
        times = [participant.wake_at() for participant in self.participants]
        times += [self._entering.rejoining.wake_at(), self._sending_only.wake_at()]
        return min((at for at in times if at is not None), default=None)

    def _recover(self, state: wire.RememberedParticipation) -> Effects:
        return self._sending_only.recover(state) if state.send_only else self._entering.recover(state)

    def _woken(self, now: float) -> Effects:
        effects: Effects = []
        for participant in self.participants:
            at = participant.wake_at()
            if at is not None and now >= at:
                effects += participant.woken(now)
        return effects + self._entering.rejoining.due(now) + self._sending_only.due(now)

    # ---- the control group

    def _arrived(self, group_id: bytes, datagram: bytes, now: float) -> Effects:
        found = self.participants.of_group(group_id)
        return [effect for participant in found for effect in participant.datagram_arrived(datagram, now)]

    def _outgoing(self, now: float) -> Effects:
        """What is to go out; what one local user says the others hear without the network, and may answer."""
        effects: Effects = []
        while sent := [(one, said) for one in self.participants for said in one.outgoing()]:
            for participant, datagram in sent:
                effects += [datagram, *self._loop(participant, datagram, now)]
        return effects

    def _loop(self, source: LocalParticipant, sent: SendControl, now: float) -> Effects:
        others = [one for one in self.participants.of_group(sent.group_id) if one is not source]
        return [effect for participant in others for effect in participant.datagram_arrived(sent.datagram, now)]

    def _in_use(self, group_id: bytes) -> bool:
        return bool(self.participants.of_group(group_id))

    # ---- the MSM's news

    def _published(self, event: Published, now: float) -> Effects:
        if str(event.sender.id) != self.setting.host:
            return [Count("rejected.group-changed.sender")]
        changed: msm_pb2.GroupChanged = event.message
        if changed.group_id in self._sending_only.groups:
            return self._sending_only.changed(changed, now)
        effects: Effects = [Count("forgeries")] if changed.change == "forgery" else []
        for participant in self.participants.of_group(changed.group_id):
            if changed.change == "ejected":
                effects += participant.fail("thrown out by the Coordinator", now)
            elif changed.change in ("clash", "move-wanted"):
                move = changed.change == "move-wanted"
                effects += self._moving.clashes(participant, changed.remark, move=move, now=now)
            elif changed.change == "statement-needed":
                self._entering.rejoining.want(participant, [changed.group_id], now)
            elif changed.change != "forgery":
                effects += participant.roster_changed(changed.group_id, changed.roster, now)
        return effects

    def _relay_lost(self, group_id: bytes, now: float) -> Effects:
        if group_id in self._sending_only.groups:
            return self._sending_only.relay_lost(group_id, now)
        for participant in self.participants.of_group(group_id):
            groups = [group.group_id for group in participant.terms.groups]
            self._entering.rejoining.want(participant, groups, now)
        return []

    # ---- applications

    def _asked(self, asked: ApplicationAsked, now: float) -> Effects:
        try:
            return self._verbs[asked.verb](asked, now)
        except Refused as refused:
            return [refuse(asked, refused)]

    def _pass_on(self, asked: ApplicationAsked, message: Message, make: Callable[[Any], Message]) -> Effects:
        return [
            ask_msm(
                self.setting.host,
                asked.verb,
                message,
                lambda response, _now: [answer(asked, make(response))],
                lambda refusal, _now: [refuse(asked, refusal)],
                asked.traceparent,
            )
        ]

    def _list_sessions(self, asked: ApplicationAsked, now: float) -> Effects:
        def make(response: msm_pb2.ListSessionsResponse) -> Message:
            return wire.ConferenceServiceListSessionsResponse(sessions=response.sessions)

        return self._pass_on(asked, msm_pb2.ListSessionsRequest(), make)

    def _describe_groups(self, asked: ApplicationAsked, now: float) -> Effects:
        def make(response: msm_pb2.DescribeGroupsResponse) -> Message:
            return wire.ConferenceServiceDescribeGroupsResponse(groups=response.groups)

        return self._pass_on(asked, msm_pb2.DescribeGroupsRequest(), make)

    def _list_conferences(self, asked: ApplicationAsked, now: float) -> Effects:
        wanted = asked.message.conference_id
        states = [one.view() for one in self.participants if wanted in (b"", one.conference_id)]
        return [answer(asked, wire.ListConferencesResponse(conferences=states))]

    def _attach(self, asked: ApplicationAsked, now: float) -> Effects:
        message: wire.AttachRequest = asked.message
        if len(message.application_id) not in (0, 16):
            raise Refused("application", "id", "an application id has 16 bytes")
        participant = self.participants.find(message.conference_id, message.user)
        key_id, effects = participant.attached.attach(asked.connection, message.application_id, now)
        return [answer(asked, wire.AttachResponse(state=participant.view(), key_id=key_id)), *effects]

    def _send(self, asked: ApplicationAsked, now: float) -> Effects:
        message: wire.SendRequest = asked.message
        participant = self.participants.find(message.conference_id, message.user)
        if participant.state not in (life.ACTIVE, life.REKEYING):
            sentence = f"the conference is {participant.state}: there is no conference key to seal under"
            raise Refused("no-key", participant.state, sentence)
        if len(message.sframe) > LARGEST_SEALED:
            raise Refused("too-long", "sealed-message", f"a message has at most {LARGEST_SEALED} bytes, sealed")
        sealed = ControlMessage(sealed=SealedMessage(sframe=message.sframe, receipt=message.receipt))
        said = participant.say(sealed, now, asked.traceparent)
        heard = [e for e in said if not (isinstance(e, TellApplication) and e.connection is asked.connection)]
        return [*heard, answer(asked, wire.SendResponse())]

    def _call(self, asked: ApplicationAsked, now: float) -> Effects:
        participant = self.participants.coordinator_of(asked.message.conference_id, "call")
        participant.trace = asked.traceparent or participant.trace
        return [*participant.call_anew(now), answer(asked, wire.ConferenceServiceCallResponse())]

    def _eject(self, asked: ApplicationAsked, now: float) -> Effects:
        message: wire.EjectRequest = asked.message
        participant = self.participants.coordinator_of(message.conference_id, "eject")
        if message.subject == participant.name:
            raise Refused("not-allowed", "not-oneself", "the Coordinator leaves, it is not ejected")
        if not message.ban and participant.coordination is not None:
            participant.coordination.check_known(message.subject)
        eviction = Eviction(
            conference_id=message.conference_id,
            subject=message.subject,
            reason=message.reason,
            time_ms=round(now * 1000),
        )
        signed = participant.user.sign_statement(EVICTION_LABEL, eviction.SerializeToString())
        request = msm_pb2.EvictMemberRequest(
            conference_id=message.conference_id,
            eviction=signed,
            authorizer=participant.terms.description.authorizer,
        )

        def evicted(response: msm_pb2.EvictMemberResponse, now: float) -> Effects:
            participant.trace = asked.traceparent or participant.trace
            said = participant.say(ControlMessage(ejection=Ejection(eviction=signed)), now, asked.traceparent)
            called = participant.call_anew(now)
            return [*said, *called, answer(asked, wire.EjectResponse(epochs=response.epochs))]

        refused: Callable[[Refused, float], Effects] = lambda refusal, _now: [refuse(asked, refusal)]  # noqa: E731
        return [ask_msm(self.setting.host, "evict-member", request, evicted, refused, asked.traceparent)]

    def _move(self, asked: ApplicationAsked, now: float) -> Effects:
        participant = self.participants.coordinator_of(asked.message.conference_id, "move")

        def done(refusal: Refused | None, _now: float) -> Effects:
            if refusal is not None:
                return [refuse(asked, refusal)]
            return [answer(asked, wire.ConferenceServiceMoveResponse(groups=participant.terms.groups))]

        return self._moving.begin(participant, done, now)

    def _leave(self, asked: ApplicationAsked, now: float) -> Effects:
        participant = self.participants.find(asked.message.conference_id, asked.message.user)
        participant.trace = asked.traceparent or participant.trace
        response = wire.ConferenceServiceLeaveResponse(record_path=participant.view().record_path)
        return participant.ending.leave(lambda: [answer(asked, response)], now)

    def _show_record(self, asked: ApplicationAsked, now: float) -> Effects:
        participant = self.participants.find(asked.message.conference_id, "")
        raw = participant.record.serialised()
        if len(raw) > LARGEST_SHOWN:
            path = participant.view().record_path
            raise Refused("too-long", "record", f"the record has {len(raw)} bytes; read it in {path}")
        return [answer(asked, wire.ShowRecordResponse(record=raw))]
