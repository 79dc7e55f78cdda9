"""Reads REQUIREMENTS.md, and says after a full run which requirements this machine has shown: one whose test was
skipped, or failed, is not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "REQUIREMENTS.md"


@dataclass(frozen=True)
class Requirement:
    id: str
    demand: str
    state: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]

    @property
    def word(self) -> str:
        """ "met", "partly" or "open"."""
        return self.state.partition(":")[0]


def requirements() -> list[Requirement]:
    """The table's rows."""
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and re.fullmatch(r"[A-Z]\d", cells[0]):
            modules, tests = (tuple(re.findall(r"`([^`]+)`", cell)) for cell in cells[3:])
            found.append(Requirement(cells[0], cells[1], cells[2], modules, tests))
    return found


class Report:
    """A plugin: collects outcomes by file and test, tells them by requirement."""

    def __init__(self) -> None:
        self._bad: dict[str, str] = {}
        self._ran: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid.partition("[")[0]
        if report.when == "call" and report.passed:
            self._ran.add(test)
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "skipped"
            self._bad[test] = reason.removeprefix("Skipped: ")
        elif report.failed:
            self._bad[test] = "failed"

    def shown(self, requirement: Requirement) -> str:
        """ "" where all of its tests ran and passed; otherwise why not."""
        for named in requirement.tests:
            matching = [test for test in self._bad if test == named or test.startswith(f"{named}::")]
            if matching:
                return f"{matching[0]}: {self._bad[matching[0]]}"
            if not any(test == named or test.startswith(f"{named}::") for test in self._ran):
                return f"{named} did not run"
        return ""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        everything = requirements()
        if len(self._ran) < 500:  # not a full run: nothing to say about requirements
            return
        terminalreporter.section("requirements of the paper")
        for requirement in everything:
            state, why = requirement.word, ""
            if requirement.word != "open":
                why = self.shown(requirement)
                state = "not shown here" if why else requirement.word
            remark = why or requirement.state.partition(": ")[2]
            told = f"{requirement.demand}{f'  ({remark})' if remark else ''}"
            terminalreporter.write_line(f"{requirement.id:3} {state:14} {told}")
