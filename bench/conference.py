"""From `start` to everybody's conference key: real processes on real packets, everybody joining at once.

The Coordinator convenes, the others see the announcement, join, and the conference-call goes out when the last has
come: no waiting period. All services of all hosts share this machine's cores.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from mcsa.demo.options import HOSTS, USERS
from mcsa.domain.files import DomainFiles
from mcsa.domain.processes import INFRASTRUCTURE, DomainProcesses
from mcsa.laboratory.namespaces import Laboratory
from mcsa.sdk.conference import Conference, Connection, connect

FIGURES = {
    "seconds_3": "from `start` to everybody's conference key, 3 participants (seconds)",
    "seconds_10": "the same, 10 participants",
    "rekey_seconds_3": "of these: from a conference-call to everybody's new key, 3 participants",
    "rekey_seconds_10": "the same, 10 participants",
}
DOMAIN = "bench.example"
LOOK_EACH = 0.02  # seconds between looks at the session list
KEY_WITHIN = 30.0


def run() -> dict[str, float | str]:
    """All figures, with the kind of network they were had on."""
    return asyncio.run(_measure())


async def _measure() -> dict[str, float | str]:
    figures: dict[str, float | str] = {}
    with tempfile.TemporaryDirectory(prefix="mcsa-bench-") as folder:
        files = DomainFiles(Path(folder), DOMAIN)
        with Laboratory([*HOSTS, INFRASTRUCTURE], (INFRASTRUCTURE,)) as laboratory:
            options = {"interval_floor": 0.5}
            with DomainProcesses(laboratory, files, HOSTS, sd_options=options):
                for size in (3, 10):
                    whole, rekey = await _conference(files, size)
                    figures[f"seconds_{size}"] = round(whole, 3)
                    figures[f"rekey_seconds_{size}"] = round(rekey, 3)
            figures["network"] = laboratory.kind
    return {name: figures[name] for name in (*FIGURES, "network")}


async def _conference(files: DomainFiles, size: int) -> tuple[float, float]:
    """Seconds to the first key of all, and from a further call to the next."""
    title = f"conference of {size}"
    people: list[Connection] = []
    for user, host in zip(USERS[:size], HOSTS[:size], strict=True):
        connection = connect(user=files.credentials_path("user", user), socket=files.sockets(host) / "csm.sock")
        people.append(await connection.__aenter__())
    acceptable = [f"spiffe://{DOMAIN}/user/{user}" for user in USERS[:size]]
    began_at = time.monotonic()
    first = await people[0].convene(title, acceptable_users=acceptable, wait=KEY_WITHIN)
    others = await asyncio.gather(*(_join(person, title) for person in people[1:]))
    conferences = [first, *others]
    epoch = await _all_hold_a_key(conferences, size, 0)
    whole = time.monotonic() - began_at
    called_at = time.monotonic()
    await first.call()
    await _all_hold_a_key(conferences, size, epoch)
    rekey = time.monotonic() - called_at
    await first.leave()
    for person in people:
        await person.__aexit__(None, None, None)
    return whole, rekey


async def _join(person: Connection, title: str) -> Conference:
    while True:
        if any(session.title == title and session.verified for session in await person.sessions()):
            return await person.join(title)
        await asyncio.sleep(LOOK_EACH)


async def _all_hold_a_key(conferences: list[Conference], size: int, after: int) -> int:
    give_up_at = time.monotonic() + KEY_WITHIN
    while time.monotonic() < give_up_at:
        states = [conference.state for conference in conferences]
        epochs = {state.key_epoch for state in states}
        if len(epochs) == 1 and min(epochs) > after and all(len(state.participants) == size for state in states):
            return min(epochs)
        await asyncio.sleep(0.002)
    raise TimeoutError(f"no key for {size} within {KEY_WITHIN:g} s")
