"""Records all that the broker carries: `python -m tests.domain.bus_recorder --bus URL --nkey FILE --output FILE`.

Prints "recording" when it is ready; with `--say TEXT` it publishes that first thing and ends.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from mcsa.shell.bus import Bus
from mcsa.shell.nkeys import load_nkey
from mcsa.shell.process import stop_event

NAME = "wiretap"


async def record(arguments: argparse.Namespace) -> None:
    stop = stop_event()
    bus = Bus([arguments.bus], NAME, load_nkey(arguments.nkey))
    await bus.start()
    if arguments.say:
        await bus.publish("wiretap.planted", arguments.say.encode())
    else:
        with arguments.output.open("ab", buffering=0) as output:

            def heard(subject: str, payload: bytes, _headers: object) -> None:
                output.write(subject.encode() + b"\n" + payload + b"\n")

            await bus.subscribe(">", heard)
            print("recording", flush=True)
            await stop.wait()
    await bus.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--bus", required=True)
    parser.add_argument("--nkey", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--say", default="")
    asyncio.run(record(parser.parse_args()))
