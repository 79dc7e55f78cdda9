"""A pytest plug-in: a table at the end, each check on a line with the time that it took and what it printed."""

from __future__ import annotations

import pytest

_SAYS = {"passed": "holds", "failed": "FAILS", "error": "FAILS", "skipped": "skipped"}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """After everything else."""
    terminalreporter.section("the kernel's IPsec")
    for outcome, says in _SAYS.items():
        for report in terminalreporter.stats.get(outcome, []):
            name = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
            measured = f": {' '.join(report.capstdout.split())}" if report.capstdout else ""
            terminalreporter.write_line(f"{says:8}{report.duration:7.1f} s  {name}{measured}")
