"""Users of this host that send to groups without joining them, or the conference (paper, section 2.3.1). Sans-I/O.

    send-only -> key file -> list-sessions -> prepare-join, signed -> open-sending -> the local socket

Such a user is no participant: it has no seat in the conference, no conference key, no record. Where the MSM needs the
user's word again (it restarted, or the Authorizer began anew), it is given, until it is refused for good; and so it is
by a CSM that restarts.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from mcsa.endpoint import Count
from mcsa.errors import Refused
from mcsa.identity import Credentials
from mcsa.v1 import csm_pb2 as wire
from mcsa.v1 import msm_pb2
from mcsa.v1.msm_pb2 import Session
from mcsa.v1.types_pb2 import GroupDescription
from services.csm.asking import Effects, answer, ask_msm, refuse, verified_session, with_user
from services.csm.events import ApplicationAsked, CloseRelay, LoadUser, OpenRelay, Remember
from services.csm.joining import Joining
from services.csm.rejoining import AGAIN_AFTER, GIVE_UP_AFTER, PASSING
from services.csm.setting import Setting
from services.csm.terms import CONTROL_GROUP, Terms, open_terms

AT_ONCE = 256  # groups that users of this host send to


@dataclass(slots=True)
class _Sending:
    """One group, and for whom."""

    user: Credentials
    key: wire.UserKey
    conference_id: bytes
    authorizer: str
    group: GroupDescription
    again_at: float | None = None  # the user's word is wanted then
    give_up_at: float = 0.0


class SendingOnly:
    """See the module."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._sending: dict[bytes, _Sending] = {}  # by group

    @property
    def groups(self) -> Collection[bytes]:
        """Ids of those that are sent to."""
        return self._sending.keys()

    # ---- applications

    def begin(self, asked: ApplicationAsked, now: float) -> Effects:
        """`SendOnlyRequest`: to what the directory heard, and its Coordinator signed."""
        if len(self._sending) >= AT_ONCE:
            raise Refused("too-many", "send-only", f"this host sends to {AT_ONCE} groups already; end one first")

        def loaded(user: Credentials, _now: float) -> Effects:
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

        return with_user(asked, loaded)

    def _found(self, asked: ApplicationAsked, user: Credentials, listed: msm_pb2.ListSessionsResponse) -> Effects:
        message: wire.SendOnlyRequest = asked.message
        try:
            session = verified_session(listed, message.conference_id)
            group = _group_named(session, message.group)
        except Refused as refused:
            return [refuse(asked, refused)]
        sending = _Sending(user, message.user, session.conference_id, session.authorizer, group)

        def done(answers: dict[bytes, Any], refusal: Refused | None, now: float) -> Effects:
            if refusal is not None:
                return [refuse(asked, refusal)]
            response: msm_pb2.OpenSendingResponse = answers[group.group_id]
            statement = response.description
            try:
                terms = open_terms(statement, session.groups, session.conference_id, self._setting.trust, now)
            except Refused as refused:
                return [*self._end(group.group_id), refuse(asked, refused)]
            self._sending[group.group_id] = sending
            told = wire.SendOnlyResponse(socket_path=response.socket_path, sender_id=response.sender_id, group=group)
            return [_remember(sending, terms), OpenRelay(group.group_id, response.socket_path), answer(asked, told)]

        return self._ask(sending, done, asked.traceparent)

    def _ask(self, sending: _Sending, done: Any, traceparent: str | None = None) -> Effects:
        return Joining(
            sending.user,
            self._setting.host,
            sending.authorizer,
            sending.conference_id,
            [sending.group],
            done,
            traceparent,
            send_only=True,
        ).begin()

    def end(self, asked: ApplicationAsked, now: float) -> Effects:
        """`EndSendOnlyRequest`."""
        message: wire.EndSendOnlyRequest = asked.message
        for group_id, sending in self._sending.items():
            if (sending.conference_id, sending.group.name) == (message.conference_id, message.group):
                return [*self._end(group_id), answer(asked, wire.EndSendOnlyResponse())]
        sentence = f"no user of this host sends to '{message.group}' of that session without having joined it"
        raise Refused("unknown-group", "send-only", sentence)

    def _end(self, group_id: bytes) -> Effects:
        """The local socket ends with it: whoever sends hears of it by that."""
        sending = self._sending.pop(group_id, None)
        forgotten = [] if sending is None else [Remember(group_id, str(sending.user.id), None)]
        request = msm_pb2.EndSendingRequest(group_id=group_id)
        told = ask_msm(
            self._setting.host,
            "end-sending",
            request,
            lambda _message, _now: [],
            lambda refusal, _now: [Count(f"unanswered.{refusal.code}")],
        )
        return [*forgotten, told, CloseRelay(group_id)]

    def recover(self, state: wire.RememberedParticipation) -> Effects:
        """What an earlier process began: the user's word, once more."""

        def loaded(user: Credentials | None, _refusal: Refused | None, now: float) -> Effects:
            if user is None:
                return [Count("recovery.key-file")]
            try:
                terms = open_terms(state.description, list(state.groups), state.conference_id, self._setting.trust, now)
            except Refused as refused:
                return [Count(f"recovery.{refused.rule}")]
            for group in terms.groups:
                if group.name == state.send_only:
                    authorizer = terms.description.authorizer
                    self._sending[group.group_id] = _Sending(user, state.user, terms.conference_id, authorizer, group)
                    self._want(group.group_id, now)
            return []

        return [LoadUser(state.user, loaded)]

    # ---- the MSM's news

    def changed(self, changed: msm_pb2.GroupChanged, now: float) -> Effects:
        """About one of `groups`."""
        if changed.change == "statement-needed":
            self._want(changed.group_id, now)
        return []

    def relay_lost(self, group_id: bytes, now: float) -> Effects:
        """The MSM's local socket has ended, and the MSM with it."""
        if group_id in self._sending:
            self._want(group_id, now)
        return []

    def _want(self, group_id: bytes, now: float) -> None:
        sending = self._sending[group_id]
        if sending.give_up_at <= now:
            sending.again_at, sending.give_up_at = now, now + GIVE_UP_AFTER

    def wake_at(self) -> float | None:
        """When `due` is wanted."""
        return min((each.again_at for each in self._sending.values() if each.again_at is not None), default=None)

    def due(self, now: float) -> Effects:
        """Registrations whose time has come."""
        effects: Effects = []
        for group_id, sending in list(self._sending.items()):
            if sending.again_at is not None and now >= sending.again_at:
                sending.again_at = None
                effects += self._again(group_id, sending)
        return effects

    def _again(self, group_id: bytes, sending: _Sending) -> Effects:
        def done(answers: dict[bytes, Any], refusal: Refused | None, now: float) -> Effects:
            if self._sending.get(group_id) is not sending:  # it was ended meanwhile
                return []
            if refusal is None:
                sending.give_up_at = 0.0
                return [OpenRelay(group_id, answers[group_id].socket_path)]
            if refusal.code in PASSING and now < sending.give_up_at:
                sending.again_at = now + AGAIN_AFTER
                return []
            return [Count(f"send-only.ended.{refusal.code}"), *self._end(group_id)]

        return self._ask(sending, done)


def _remember(sending: _Sending, terms: Terms) -> Remember:
    """By its group: a user may send to several of one conference."""
    state = wire.RememberedParticipation(
        user=sending.key,
        conference_id=sending.conference_id,
        description=terms.statement,
        groups=terms.groups,
        send_only=sending.group.name,
    )
    return Remember(sending.group.group_id, str(sending.user.id), state)


def _group_named(session: Session, name: str) -> GroupDescription:
    media = [group for group in session.groups if group.name != CONTROL_GROUP]
    for group in media:
        if group.name == name:
            return group
    names = ", ".join(group.name for group in media) or "none"
    if name == CONTROL_GROUP:
        sentence = f"what is said in the control group is the participants' alone; join, or send to one of: {names}"
        raise Refused("not-allowed", "control-group", sentence)
    raise Refused("unknown-group", "name", f"the session has no group '{name}' to send to; it has: {names}")
