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

ENDINGS = (signal.SIGTERM, signal.SIGHUP)  # a shell's kill, a terminal that is closed: they end it as Ctrl-C does

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
    telling = Telling()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="mcsa-demo-"))
    figures: dict[str, Any] = {}
    try:
        asyncio.run(_play(options, folder, telling, figures))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except (StepError, Refused) as error:
        telling.say(f"it went wrong: {error}")
        telling.say(f"logs of all services are in {folder / 'domain' / 'logs'}")
    ok = telling.ok and len(telling.steps) == len(STEPS)
    telling.say(f"{'all steps did what they should' if ok else 'FAILED'}; files are kept in {folder}")
    if options.json is not None:
        steps = [{"name": step.name, "ok": step.ok, "seconds": step.seconds} for step in telling.steps]
        options.json.write_text(json.dumps({"ok": ok, "steps": steps, "figures": figures}, indent=1) + "\n")
    return 0 if ok else 1


async def _play(options: Options, folder: Path, telling: Telling, figures: dict[str, Any]) -> None:
    playing = asyncio.current_task()
    assert playing is not None
    for number in ENDINGS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    place = kind()
    telling.say(f"hosts are {place.name.replace('-', ' ')}: {place.reason}")
    stage = Stage(options, folder)
    for line in stage.laboratory.not_shown:
        telling.say(f"not shown here: {line}")
    async with stage:
        stage.figures = figures
        telling.say("broker, Authorizer, SD, and an MSM and a CSM on each host are running, each a process of its own")
        for name, (title, step) in STEPS.items():
            with telling.step(name, title), stage.traced(f"demo.{name}"):
                await step(stage, telling)
