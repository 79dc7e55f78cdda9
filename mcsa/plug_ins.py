"""Plug-ins: a module of a package each, found by itself. What is found is what the module names by a constant."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any


def plug_ins(package_name: str, constant: str) -> dict[str, Any]:
    """The constant of each module that has it, by the module's name."""
    package = importlib.import_module(package_name)
    modules = [module.name for module in pkgutil.iter_modules(package.__path__)]
    found = {name: getattr(importlib.import_module(f"{package_name}.{name}"), constant, None) for name in modules}
    return {name: each for name, each in found.items() if each is not None}
