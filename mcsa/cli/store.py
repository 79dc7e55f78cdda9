"""`mcsa store`: the place in JetStream where an Authorizer keeps its logs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from mcsa.cli.showing import out
from mcsa.shell.nkeys import load_nkey
from mcsa.shell.stream import prepare_stream

app = typer.Typer(help="The place in JetStream where an Authorizer keeps its logs.", no_args_is_help=True)


@app.callback()
def _store() -> None:
    """The place in JetStream where an Authorizer keeps its logs."""


@app.command()
def prepare(
    authorizer: Annotated[str, typer.Argument(help="Name of the Authorizer, as in its SPIFFE ID.")],
    bus: Annotated[list[str], typer.Option(help="URL of the broker; may be given several times.")],
    nkey: Annotated[Path, typer.Option(help="Seed of the storekeeper at the broker, 0600.", exists=True)],
    replicas: Annotated[int, typer.Option(min=1, max=5, help="Servers that keep a copy each.")] = 1,
) -> None:
    """Make the stream, or bring it to what this version wants. Before the Authorizer first starts; harmless again."""
    asyncio.run(prepare_stream(bus, load_nkey(nkey), authorizer, replicas=replicas))
    out.print(f"the logs of {authorizer} have a place on {', '.join(bus)}")
