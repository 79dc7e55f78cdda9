"""Runs the demo's steps, tells them, and leaves nothing behind but what it names."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mcsa.demo.convene_and_join import convene, join
from mcsa.demo.eject import eject
from mcsa.demo.key_and_talk import key, talk
from mcsa.demo.options import Options
from mcsa.demo.record import record
from mcsa.demo.refuse import refuse
from mcsa.demo.stage import Stage
from mcsa.demo.summary import summary
from mcsa.demo.telling import StepError, Telling
from mcsa.errors import Refused
from mcsa.laboratory.kind import kind, reexec_in_user_namespace
from mcsa.shell.process import ENDINGS, interrupt_at_endings

INTERRUPTED = 130  # exit code

STEPS: dict[str, tuple[str, Callable[[Stage, Telling], Awaitable[None]]]] = {
    "convene": ("Alice convenes a conference.", convene),
    "join": ("The others see it, choose it, join.", join),
    "refuse": ("Mallory may not.", refuse),
    "key": ("They agree on a key that the Authorizer never has.", key),
    "talk": ("They talk.", talk),
    "eject": ("Alice throws one out, while sound flows.", eject),
    "record": ("Everybody leaves, and can't deny it.", record),
    "summary": ("What it took.", summary),
}


def run_demo(options: Options) -> int:
    """The whole demo; the exit code: 0 only when every step did what it should."""
    reexec_in_user_namespace()
    options.check_machine()
    telling = Telling()
    folder = options.folder or _new_folder()
    figures: dict[str, Any] = {}
    interrupted = False
    try:
        _play(options, folder, telling, figures)
    except (KeyboardInterrupt, asyncio.CancelledError):
        interrupted = True
    except (StepError, Refused) as error:
        telling.say(f"it went wrong: {error}")
        telling.say(f"logs of all services are in {folder / 'domain' / 'logs'}")
    ok = telling.ok and len(telling.steps) == len(STEPS)
    outcome = "interrupted" if interrupted else "all steps did what they should" if ok else "FAILED"
    telling.say(f"{outcome}; files are kept in {folder}")
    if options.json is not None:
        steps = [{"name": step.name, "ok": step.ok, "seconds": step.seconds} for step in telling.steps]
        options.json.write_text(json.dumps({"ok": ok, "steps": steps, "figures": figures}, indent=1) + "\n")
    return INTERRUPTED if interrupted else 0 if ok else 1


def _new_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="mcsa-demo-"))
    except OSError as error:
        sentence = f"no folder can be made for the demo's files ({error.strerror}): set TMPDIR to a folder of yours"
        raise Refused("folder", "temporary", sentence) from None


def _play(options: Options, folder: Path, telling: Telling, figures: dict[str, Any]) -> None:
    interrupt_at_endings()
    place = kind()
    telling.say(f"hosts are {place.name.replace('-', ' ')}: {place.reason}")
    stage = Stage(options, folder)
    stage.figures = figures
    for line in stage.laboratory.not_shown:
        telling.say(f"not shown here: {line}")
    with stage.hosts():
        asyncio.run(_play_steps(stage, telling))


async def _play_steps(stage: Stage, telling: Telling) -> None:
    playing = asyncio.current_task()
    assert playing is not None
    for number in ENDINGS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    async with stage:
        telling.say("broker, Authorizer, SD, and an MSM and a CSM on each host are running, each a process of its own")
        for name, (title, step) in STEPS.items():
            with telling.step(name, title), stage.traced(f"demo.{name}"):
                await step(stage, telling)
