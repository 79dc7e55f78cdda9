"""`python -m bench NAME` measures one figure, `python -m bench all` all of them; `--json` leaves out the table.

A figure is a module of this package with `FIGURES` (name to what it is) and `run()`; with `add_options`, it has options
of its own, which `run` is given, and with `table` a table of its own. The last line on standard output is one JSON
object: of names to values, or for `all` of modules to such objects.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

import bench
from mcsa.laboratory.kind import reexec_in_user_namespace


def names() -> list[str]:
    """The modules that measure something."""
    found = (module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_"))
    return sorted(name for name in found if hasattr(importlib.import_module(f"bench.{name}"), "run"))


def machine() -> str:
    """What the figures were had on, in a line."""
    models = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    cores, model = len(os.sched_getaffinity(0)), models[0] if models else platform.machine()
    return f"{cores} cores, {model}, Linux {platform.release()}, Python {platform.python_version()}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _table(module: ModuleType, name: str, values: dict[str, Any]) -> RenderableType:
    title = f"{name}: {machine()}"
    if hasattr(module, "table"):
        own: RenderableType = module.table(values, title)
        return own
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("what it is")
    for figure, value in values.items():
        table.add_row(figure, str(value), module.FIGURES.get(figure, ""))
    return table


def _options(name: str, rest: list[str]) -> dict[str, Any]:
    """What a figure of its own is asked for; ends the program where it doesn't know that."""
    parser = argparse.ArgumentParser(prog=f"python -m bench {name}")
    if name != "all" and hasattr(module := importlib.import_module(f"bench.{name}"), "add_options"):
        module.add_options(parser)
    return vars(parser.parse_args(rest))


def main() -> None:
    """See the module."""
    known = names()
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures what we publish.")
    parser.add_argument("name", choices=[*known, "all"], type=lambda name: name.replace("-", "_"))
    parser.add_argument("--json", action="store_true", help="no table")
    arguments, rest = parser.parse_known_args()
    options = _options(arguments.name, rest)
    reexec_in_user_namespace()
    results = {}
    for name in known if arguments.name == "all" else [arguments.name]:
        module = importlib.import_module(f"bench.{name}")
        results[name] = module.run(**options)
        if not arguments.json:
            Console().print(_table(module, name, results[name]))
    print(json.dumps(results if arguments.name == "all" else results[arguments.name]))


if __name__ == "__main__":
    main()
