"""A pytest plug-in: each check on a line of its own, with the time that it took, as a table at the end."""

from __future__ import annotations

import pytest

_SAYS = {"passed": "holds", "failed": "FAILS", "error": "FAILS", "skipped": "skipped"}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """After everything else."""
    terminalreporter.section("the kernel's IPsec")
    for outcome, says in _SAYS.items():
        for report in terminalreporter.stats.get(outcome, []):
            name = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
            terminalreporter.write_line(f"{says:8}{report.duration:7.1f} s  {name}")
