"""Asks the Authorizer with a certificate of another authority: `python -m mcsa.demo.foreign_host`. Prints JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path

from mcsa import subjects
from mcsa.broker import bus_name
from mcsa.envelope import sign_envelope
from mcsa.key_files import load_credentials
from mcsa.shell.bus import Bus, BusUnavailable
from mcsa.shell.nkeys import load_nkey
from mcsa.v1.authorizer_pb2 import CertificateRequest

ANSWER_WITHIN = 1.5  # seconds; the Authorizer answers within a few milliseconds


async def ask(arguments: argparse.Namespace) -> bool:
    """Whether there was an answer."""
    credentials = load_credentials(arguments.credentials)
    token = credentials.id.token
    bus = Bus([arguments.bus], bus_name(subjects.MSM, token), load_nkey(arguments.nkey))
    await bus.start()
    message = CertificateRequest(conference_id=bytes.fromhex(arguments.conference))
    raw, _ = sign_envelope(credentials, message, arguments.authorizer, os.urandom(16), time.time() + 10)
    try:
        await bus.request(subjects.subject(subjects.AUTHORIZER, token, "certificate"), raw, ANSWER_WITHIN)
    except BusUnavailable:
        return False
    finally:
        await bus.close()
    return True


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m mcsa.demo.foreign_host", description=__doc__)
    for name, kind in (("bus", str), ("credentials", Path), ("nkey", Path), ("authorizer", str), ("conference", str)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    print(json.dumps({"answered": asyncio.run(ask(parser.parse_args()))}))


if __name__ == "__main__":
    main()
