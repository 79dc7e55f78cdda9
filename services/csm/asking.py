"""Requests to the MSM of the own host, each with what is to be done with its answer; answers to applications."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from mcsa import subjects
from mcsa.endpoint import Request
from mcsa.errors import Refused
from mcsa.identity import Credentials
from mcsa.v1.msm_pb2 import ListSessionsResponse, Session
from services.csm.events import AnswerApplication, ApplicationAsked, LoadUser

Effects = list[Any]


@dataclass(frozen=True, eq=False, slots=True)
class Continuation:
    """Token of a request: exactly one of the two is called, once."""

    answered: Callable[[Any, float], Effects]
    refused: Callable[[Refused, float], Effects]


def ask_msm(
    host: str,
    verb: str,
    message: Message,
    answered: Callable[[Any, float], Effects],
    refused: Callable[[Refused, float], Effects],
    traceparent: str | None = None,
    within: float = 10.0,
) -> Request:
    """A request to the MSM of `host` (a SPIFFE ID)."""
    return Request(subjects.MSM, verb, message, host, Continuation(answered, refused), within, traceparent)


def answer(asked: ApplicationAsked, message: Message) -> AnswerApplication:
    """The answer to an application."""
    return AnswerApplication(asked.connection, asked.number, message)


def refuse(asked: ApplicationAsked, refusal: Refused | None) -> AnswerApplication:
    """The refusal, with its code and sentence."""
    unknown = Refused("refused", "unknown", "it was refused without a reason")
    return AnswerApplication(asked.connection, asked.number, refusal=refusal or unknown)


def with_user(asked: ApplicationAsked, then: Callable[[Credentials, float], Effects]) -> Effects:
    """Reads the key file of the user that asks first; a refusal is the answer."""

    def loaded(user: Credentials | None, refusal: Refused | None, now: float) -> Effects:
        if user is None:
            return [refuse(asked, refusal)]
        if user.id.kind != "user":
            sentence = f"{user.id} is no user: take a key file that `mcsa ca issue user NAME` made"
            return [refuse(asked, Refused("user", "kind", sentence))]
        return then(user, now)

    return [LoadUser(asked.message.user, loaded)]


def verified_session(listed: ListSessionsResponse, conference_id: bytes) -> Session:
    """What the directory heard of this conference, as its Coordinator signed it; `Refused` where there is nothing."""
    found = [session for session in listed.sessions if session.conference_id == conference_id]
    found.sort(key=lambda session: not session.verified)  # anybody can announce the same again, worse
    session = found[0] if found else None
    if session is None:
        sentence = "the directory has heard no announcement of it; `mcsa sessions` lists what it has heard"
        raise Refused("unknown-session", "directory", sentence)
    if not session.verified:
        sentence = f"the announcement is not to be trusted: {session.remark}"
        raise Refused("unverified-session", "announcement", sentence)
    return session
