"""REQUIREMENTS.md and SECURITY.md say nothing that isn't there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.requirements_report import ROOT, requirements

IDS = [
    f"{letter}{number}"
    for letter, last in (("S", 8), ("N", 7), ("M", 6), ("C", 2), ("A", 3), ("K", 5), ("I", 7), ("R", 6))
    for number in range(1, last + 1)
]


def functions_of(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def exists(named: str) -> bool:
    file, _, function = named.partition("::")
    path = ROOT / file
    return path.is_file() and (not function or function in functions_of(path))


def test_every_demand_is_listed_once():
    assert [requirement.id for requirement in requirements()] == IDS


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.id)
def test_what_a_requirement_names_is_there(requirement):
    assert requirement.word in ("met", "partly", "open")
    if requirement.word == "open":
        assert not requirement.modules and not requirement.tests
        return
    assert requirement.modules and requirement.tests
    for module in requirement.modules:
        assert (ROOT / module).exists(), module
    for test in requirement.tests:
        assert exists(test), test


def test_every_test_that_security_md_names_is_there():
    named = re.findall(r"`(tests/[^`]+)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 15
    for test in named:
        assert exists(test), test


def test_security_md_says_nothing_twice():
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    rows = [row for row in rows if row[0] not in ("---", "Who")]
    assert len(rows) > 80
    assert len(set(rows)) == len(rows)
    assert len({what for _, what in rows}) == len(rows)


def test_every_file_that_a_page_links_to_is_there():
    for page in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
            assert (ROOT / link).exists(), f"{page}: {link}"
