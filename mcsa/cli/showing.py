"""What commands show: tables for people, JSON for programs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

from mcsa.errors import Refused

T = TypeVar("T")

JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
HostOption = Annotated[str | None, typer.Option("--host", help="Whose CSM on this machine, where it runs several.")]
UserOption = Annotated[
    Path | None,
    typer.Option("--user", envvar="MCSA_USER", help="Key file of the user that acts.", exists=True, dir_okay=False),
]
PassphraseOption = Annotated[str, typer.Option(envvar="MCSA_PASSPHRASE", help="Of the key file.", show_default=False)]

out = Console(highlight=False, soft_wrap=True)
complaints = Console(stderr=True, highlight=False, soft_wrap=True)


def show_json(value: Any) -> None:
    """One value as JSON."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str, unbroken: Collection[str] = ()
) -> None:
    """A table; `empty` is said where there is nothing in it. `unbroken` columns aren't folded on a narrow terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in unbroken)
    for row in rows:
        table.add_row(*(visible(str(cell)) for cell in row))
    out.print(table if table.row_count else empty, markup=False)


def show_pairs(rows: Iterable[tuple[str, object]]) -> None:
    """What belongs to each name, where there is something; never folded: paths can be copied on any terminal."""
    pairs = [(name, visible(str(value))) for name, value in rows if str(value)]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        out.print(f"{name:<{width}}  {value}", markup=False)


def visible(text: str) -> str:
    """Without what a terminal would obey: some of it comes from the network."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)


def plain(message: Message) -> dict[str, Any]:
    """A message as JSON has it; bytes as hexadecimal, as people write ids."""
    value: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    _hex(message, value)
    return value


def _hex(message: Message, value: dict[str, Any]) -> None:
    for field in message.DESCRIPTOR.fields:
        content = getattr(message, field.name)
        if field.type == field.TYPE_BYTES and isinstance(content, bytes):
            value[field.name] = content.hex()
        elif field.type == field.TYPE_MESSAGE and field.name in value and not _is_map(field):
            pairs = zip(content, value[field.name], strict=True) if isinstance(value[field.name], list) else None
            for inner, inner_value in pairs or [(content, value[field.name])]:
                _hex(inner, inner_value)


def _is_map(field: Any) -> bool:
    return bool(field.message_type.GetOptions().map_entry)


def short(spiffe_id: str, to: str = "") -> str:
    """A name as people say it `to` somebody (a SPIFFE ID): with its domain, where that is another's."""
    name = spiffe_id.rsplit("/", 1)[-1]
    domain, own = (one.removeprefix("spiffe://").partition("/")[0] for one in (spiffe_id, to))
    return name if not own or domain == own else f"{name} ({domain})"


def run(work: Coroutine[Any, Any, T]) -> T:
    """An asynchronous command's work."""
    return asyncio.run(work)


def refuse(error: Refused) -> None:
    """A refusal, with the way out."""
    complaints.print(f"mcsa: {error.sentence}  [{error.code}; rule: {error.rule}]", markup=False, style="red")
