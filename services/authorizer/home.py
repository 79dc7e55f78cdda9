"""The door to a peer's Authorizer: an endpoint on that domain's bus, which asks and hears and serves nothing."""

from __future__ import annotations

from typing import Any

from mcsa import subjects
from mcsa.endpoint import Answered, Endpoint, Failed, Requested
from mcsa.identity import Credentials, SpiffeId
from mcsa.keys import Random
from mcsa.telemetry import NullTelemetry, Telemetry
from mcsa.trust import Trust
from services.authorizer.events import FromHome

NAME = "home"  # of the endpoint: it has no verbs


class HomeCore:
    """Hands on what comes back."""

    def __init__(self, home: str) -> None:
        self._home = home

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `mcsa.endpoint.Core`; gives `FromHome`, for the Authorizer's own core."""
        return [FromHome(self._home, event)] if isinstance(event, Answered | Failed) else []

    def wake_at(self) -> float | None:
        """It waits for nothing."""
        return None

    def reauthorise(self, request: Requested, now: float) -> None:
        """It answers nothing."""


def home_endpoint(
    home: str, credentials: Credentials, trust: Trust, random: Random, telemetry: Telemetry | None = None
) -> Endpoint:
    """By which this Authorizer asks the one named `home`, a SPIFFE ID of a peer domain."""
    return Endpoint(
        NAME,
        credentials.id.token,
        credentials,
        trust,
        HomeCore(home),
        random,
        answerers=(),
        peer_answerers={SpiffeId.parse(home).domain: ("authorizer",)},
        telemetry=telemetry or NullTelemetry(),
    )


def told_by(home: str) -> str:
    """The subjects on which that Authorizer tells its groups, on its bus."""
    return f"{subjects.PREFIX}.{subjects.GROUP}.{SpiffeId.parse(home).token}.*"
