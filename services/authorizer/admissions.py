"""Who was let into a group by which request, in the last minutes: a request told twice admits nobody twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mcsa.v1.authorizer_log_pb2 import Admission

ADMISSIONS_FOR = 120.0  # seconds; a repeated request is late by then
REPORTS_FOR = 300.0  # seconds after which a distributor's report is too late
_NOBODY = Admission()


class Admissions:
    """Of one group, oldest first; `kept` of a snapshot. What came last from a host is found without a search."""

    def __init__(self, kept: Iterable[Admission] = ()) -> None:
        self._by_request: dict[bytes, Admission] = {}
        self._asked_ms: dict[str, list[int]] = {}  # by host
        self.take(kept)

    def __iter__(self) -> Iterator[Admission]:
        return iter(self._by_request.values())

    def of(self, request_hash: bytes) -> Admission:
        """The admission by this request; an empty one where there was none, or long ago."""
        return self._by_request.get(request_hash, _NOBODY)

    def asked_last(self, host: str) -> int:
        """By a host's own clock, milliseconds: the last of its requests; 0 for none."""
        return max(self._asked_ms.get(host, ()), default=0)

    def take(self, admissions: Iterable[Admission]) -> None:
        """More of them, each copied: a part of a message keeps all of it in memory, and a snapshot is long."""
        for admission in admissions:
            copy = Admission()
            copy.CopyFrom(admission)
            self._drop(copy.request_hash)
            self._by_request[copy.request_hash] = copy
            self._asked_ms.setdefault(copy.host, []).append(copy.asked_ms)

    def forget(self, now: float, *, reported: bool) -> None:
        """Those that are too old to be repeated; `reported`: distributors tell of admissions later."""
        oldest = round((now - ADMISSIONS_FOR - (REPORTS_FOR if reported else 0)) * 1000)
        while self._by_request and self._by_request[first := next(iter(self._by_request))].time_ms <= oldest:
            self._drop(first)

    def _drop(self, request_hash: bytes) -> None:
        admission = self._by_request.pop(request_hash, None)
        if admission is None:
            return
        asked = self._asked_ms[admission.host]
        asked.remove(admission.asked_ms)
        if not asked:
            del self._asked_ms[admission.host]
