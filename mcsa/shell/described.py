"""What a service can be told, in words: its configuration as a TOML file of comments, made from the settings' models.

So it can't say anything else than what is read: names, types, defaults and bounds are pydantic's, the words are the
docstrings of the attributes.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mcsa.shell.settings import ServiceSettings

WIDTH = 100  # characters of a line
_TYPES = {str: "text", Path: "path", bool: "true or false", int: "whole number", float: "number"}
_BOUNDS = {Ge: ("at least", "ge"), Gt: ("more than", "gt"), Le: ("at most", "le"), Lt: ("less than", "lt")}


def describe(service: str, settings: type[ServiceSettings]) -> str:
    """The file; each key commented out, with its default where it has one."""
    prefix = settings.model_config.get("env_prefix", "")
    head = (
        f"Configuration of services.{service}. Each line of the form `key = value` may be in the file, or in the "
        f"environment, where it wins: {prefix}KEY, lists and tables as JSON."
    )
    blocks = [_comment(head), *("\n".join(_key(name, field)) for name, field in settings.model_fields.items())]
    return "\n\n".join(blocks) + "\n"


def _key(name: str, field: FieldInfo) -> Iterator[str]:
    yield _comment(_words(field))
    yield _comment(_terms(field))
    table = _table(field.annotation)
    if table is not None:
        for inner, part in table.model_fields.items():
            yield _comment(f"- {inner}: {_words(part)} {_terms(part)}", indent="  ")
    yield f"#{name} = {_value(field)}"


def _words(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _terms(field: FieldInfo) -> str:
    bounds = [
        f", {words} {getattr(each, attribute):g}"
        for each in field.metadata
        for kind, (words, attribute) in _BOUNDS.items()
        if isinstance(each, kind)
    ]
    return f"({_type(field.annotation)}{''.join(bounds)}; {_need(field)})"


def _need(field: FieldInfo) -> str:
    if field.is_required():
        return "has to be given"
    default = _default(field)
    return "none unless given" if default in (None, "", [], ()) else f"{_toml(default)} unless given"


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), [each for each in get_args(annotation) if each not in (NoneType, ...)]
    if origin in (Union, UnionType):
        return " or ".join(_type(each) for each in inner)
    if origin in (list, tuple):
        return f"list of {_type(inner[0])}s"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return _TYPES[annotation]


def _table(annotation: Any) -> type[BaseModel] | None:
    """The table that a list is of."""
    for inner in get_args(annotation):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return None


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def _value(field: FieldInfo) -> str:
    """The default, or what shows its form."""
    default = None if field.is_required() else _default(field)
    if default is not None:
        return _toml(default)
    table = _table(field.annotation)
    if table is not None:
        needed = (f"{name} = {_value(part)}" for name, part in table.model_fields.items() if part.is_required())
        return f"[{{ {', '.join(needed)} }}]"
    return '["..."]' if get_origin(field.annotation) in (list, tuple) else '"..."'


def _toml(value: Any) -> str:
    return json.dumps(value, default=lambda other: str(other) if isinstance(other, PurePath) else list(other))


def _comment(text: str, indent: str = "") -> str:
    start = f"# {indent}"
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=start + ("  " if indent else ""),
        break_long_words=False,
        break_on_hyphens=False,
    )
