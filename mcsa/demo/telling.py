"""What a reader sees: steps with times; rich on a terminal, plain text elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape


class StepError(Exception):
    """A step that did not do what it should; says what was seen instead."""


@dataclass(slots=True)
class Step:
    """One step as it went."""

    name: str
    ok: bool = False
    seconds: float = 0.0


class Telling:
    """Tells, and keeps what came of each step."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._began_at = time.monotonic()
        self.steps: list[Step] = []

    @property
    def ok(self) -> bool:
        """Every step did what it should."""
        return all(step.ok for step in self.steps)

    def say(self, text: str) -> None:
        """A line of the story."""
        self._console.print(f"  [dim]{time.monotonic() - self._began_at:6.2f} s[/]  {escape(text)}")

    def show(self, lines: list[str]) -> None:
        """Lines that stand for themselves."""
        for line in lines:
            self._console.print(f"            {escape(line)}")

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[None]:
        """A step; what goes wrong in it is told, and ends the demo."""
        step = Step(name)
        self.steps.append(step)
        self._console.print(f"\n[bold]{name}[/]  {escape(title)}")
        began_at = time.monotonic()
        try:
            yield
            step.ok = True
        except Exception:  # an interruption is none
            self._console.print(f"  [bold red]step '{name}' did not do what it should[/]")
            raise
        finally:
            step.seconds = round(time.monotonic() - began_at, 3)
