"""Requests to the MSM of the own host, each with what is to be done with its answer; answers to applications."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from mcsa import subjects
from mcsa.endpoint import Request
from mcsa.errors import Refused
from services.csm.events import AnswerApplication, ApplicationAsked

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
