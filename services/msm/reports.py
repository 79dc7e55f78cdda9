"""What a distributor has to report to the Authorizer: each that it welcomed, until there is an answer. Sans-I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mcsa import subjects
from mcsa.endpoint import Count, Request
from mcsa.errors import Refused
from mcsa.v1.authorizer_pb2 import AdoptRequest

WITHIN = 5.0  # seconds
AGAIN_AFTER = 1.0  # seconds after a report that failed for now
REPORT_FOR = 300.0  # seconds; the Authorizer takes none that is older
PASSING = ("no-answer", "busy", "moved")  # refusals that time may mend


@dataclass(frozen=True, slots=True)
class Reporting:
    """Token of a report."""

    group_id: bytes
    sender_id: int


@dataclass(slots=True)
class _Report:
    message: AdoptRequest
    authorizer: str
    give_up_at: float
    again_at: float | None = None  # None while it is under way


@dataclass
class Reports:
    """See the module."""

    _reports: dict[Reporting, _Report] = field(default_factory=dict)

    def begin(self, message: AdoptRequest, authorizer: str, now: float, traceparent: str | None) -> Request:
        """One more."""
        token = Reporting(message.group_id, message.sender_id)
        self._reports[token] = _Report(message, authorizer, now + REPORT_FOR)
        return self._send(token, traceparent)

    def any_of(self, group_id: bytes) -> bool:
        """There is one of this group."""
        return any(token.group_id == group_id for token in self._reports)

    def forget(self, group_id: bytes) -> None:
        """Those of a group have become void."""
        self._reports = {token: report for token, report in self._reports.items() if token.group_id != group_id}

    def answered(self, token: Reporting) -> list[Any]:
        """The Authorizer has it."""
        self._reports.pop(token, None)
        return []

    def failed(self, token: Reporting, refusal: Refused, now: float) -> list[Any]:
        """It hasn't, or doesn't want it: then the newcomer is out by a new key."""
        report = self._reports.get(token)
        if report is None:
            return []
        if refusal.code in PASSING and now < report.give_up_at:
            report.again_at = now + AGAIN_AFTER
            return []
        del self._reports[token]
        return [Count(f"not-adopted.{refusal.code}")]

    def woken(self, now: float) -> list[Any]:
        """Those that are due again."""
        return [self._send(token) for token, report in self._reports.items() if now >= (report.again_at or now + 1)]

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        return min((report.again_at for report in self._reports.values() if report.again_at is not None), default=None)

    def _send(self, token: Reporting, traceparent: str | None = None) -> Request:
        report = self._reports[token]
        report.again_at = None
        return Request(subjects.AUTHORIZER, "adopt", report.message, report.authorizer, token, WITHIN, traceparent)
