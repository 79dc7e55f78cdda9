"""Counters of a service, as an operator sees them (`$SRV.STATS`): `python -m mcsa.demo.statistics`. Prints JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from mcsa.broker import micro_name
from mcsa.shell.bus import Bus
from mcsa.shell.nkeys import load_nkey

ANSWER_WITHIN = 2.0  # seconds


async def statistics(url: str, nkey: Path, service: str) -> dict[str, int]:
    """The counters of the first replica that answers."""
    bus = Bus([url], "operator", load_nkey(nkey))
    await bus.start()
    try:
        answer = json.loads(await bus.request(f"$SRV.STATS.{micro_name(service)}", b"", ANSWER_WITHIN))
    finally:
        await bus.close()
    return next((dict(endpoint["data"]) for endpoint in answer["endpoints"] if endpoint.get("data")), {})


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m mcsa.demo.statistics", description=__doc__)
    parser.add_argument("--bus", required=True)
    parser.add_argument("--nkey", type=Path, required=True)
    parser.add_argument("--service", required=True)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(statistics(arguments.bus, arguments.nkey, arguments.service))))


if __name__ == "__main__":
    main()
