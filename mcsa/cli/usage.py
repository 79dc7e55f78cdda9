"""Where a value that was typed is wrong: told with the option's name, exit code 2."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from mcsa.errors import Refused, Rejected
from mcsa.identity import SpiffeId, is_domain


@contextmanager
def usage() -> Iterator[None]:
    """What is refused inside was asked for wrongly."""
    try:
        yield
    except Refused as refused:
        raise typer.BadParameter(refused.sentence) from None


def checked(check: Callable[[Any], object]) -> Callable[[typer.CallbackParam, Any], Any]:
    """For the `callback` of an option: what `check` refuses is wrong usage. The default needs no check."""

    def callback(param: typer.CallbackParam, value: Any) -> Any:
        if value != param.default:
            with usage():
                check(value)
        return value

    return callback


def each(check: Callable[[str], object]) -> Callable[[list[str]], None]:
    """The same check for each value of an option that may be given several times."""

    def check_all(values: list[str] | None) -> None:
        for value in values or ():
            check(value)

    return check_all


def check_user_name(name: str) -> None:
    """`Refused("name")` for what can be no user's."""
    try:
        parsed = SpiffeId.parse(name if "://" in name else f"spiffe://own/user/{name}")
    except Rejected:
        parsed = None
    if parsed is None or parsed.kind != "user":
        sentence = f"'{name}' can't be a user: one name of a-z, 0-9, '.', '-', as bob, or spiffe://DOMAIN/user/bob"
        raise Refused("name", "user", sentence)


def check_domain(domain: str) -> None:
    """`Refused("name")` for what can be no domain of SPIFFE IDs."""
    if not is_domain(domain):
        raise Refused("name", "domain", f"'{domain}' can't be a domain: lower-case letters, digits, dots and dashes")


def check_title(title: str) -> None:
    """`Refused("title")` for what people can't say or read."""
    if not title.strip() or not title.isprintable():
        raise Refused("title", "printable", "a title is one line of printable characters, and not empty")


def check_new_file(path: Path) -> None:
    """`Refused("file")` where none can be written there."""
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise Refused("file", str(path), f"{path} can't be written: give a file in a folder that is there and yours")
