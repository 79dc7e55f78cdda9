"""`python -m bench NAME` measures one figure, `python -m bench all` all of them; `--json` leaves out the table.

A figure is a module of this package with `FIGURES` (name to what it is) and `run()`. The last line on standard
output is one JSON object: of names to values, or for `all` of modules to such objects.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
from pathlib import Path

from rich.console import Console
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


def _table(name: str, values: dict[str, float | str], meanings: dict[str, str]) -> Table:
    table = Table(title=f"{name}: {machine()}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("what it is")
    for figure, value in values.items():
        table.add_row(figure, str(value), meanings.get(figure, ""))
    return table


def main() -> None:
    """See the module."""
    known = names()
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures what we publish.")
    parser.add_argument("name", choices=[*known, "all"])
    parser.add_argument("--json", action="store_true", help="no table")
    arguments = parser.parse_args()
    reexec_in_user_namespace()
    results = {}
    for name in known if arguments.name == "all" else [arguments.name]:
        module = importlib.import_module(f"bench.{name}")
        results[name] = module.run()
        if not arguments.json:
            Console().print(_table(name, results[name], module.FIGURES))
    print(json.dumps(results if arguments.name == "all" else results[arguments.name]))


if __name__ == "__main__":
    main()
