"""Step `record`: everybody leaves; what was written stands, and can't be changed."""

from __future__ import annotations

import time
from pathlib import Path

from mcsa.demo.stage import Stage
from mcsa.demo.telling import StepError, Telling
from mcsa.errors import Rejected
from mcsa.key_files import load_anchors
from mcsa.record.chain import COUNTERSIGNATURE, MESSAGE, head_of, parse_record
from mcsa.record.verify import verify_record
from mcsa.trust import Trust
from mcsa.v1.conference_pb2 import Record, RecordEntry


async def record(stage: Stage, tell: Telling) -> None:
    """Leaves, verifies, forges."""
    paths: dict[str, Path] = {}
    for player in reversed(stage.staying):
        began_at = time.monotonic()
        paths[player.user] = await player.joined.leave()
        tell.say(f"{player.user} leaves ({time.monotonic() - began_at:.2f} s); record: {paths[player.user]}")
    for user, path in paths.items():
        findings = verify_record(path.read_bytes(), _trust(stage))
        if not (findings.countersigned and findings.complete):
            raise StepError(f"{user}'s record is not whole: {', '.join(findings.missing) or 'not countersigned'}")
    alice = stage.coordinator.user
    raw = paths[alice].read_bytes()
    findings = verify_record(raw, _trust(stage))
    tell.say(
        f"`mcsa record verify` accepts it: {findings.entries} entries, signed by {len(findings.participants)} users,"
    )
    tell.say(
        f"  countersigned by the Authorizer at {time.strftime('%H:%M:%S', time.gmtime(findings.countersigned_at))} UTC"
    )
    _refused(stage, tell, "with one byte changed", _one_byte_changed(raw))
    _refused(stage, tell, "with a message left out and the chain recomputed by a participant", _recomputed(raw))
    stage.figures["record_entries"] = findings.entries
    stage.figures["records"] = {user: str(path) for user, path in paths.items()}


def _trust(stage: Stage) -> Trust:
    return Trust(stage.files.domain, load_anchors(stage.files.anchors))


def _refused(stage: Stage, tell: Telling, what: str, raw: bytes) -> None:
    try:
        verify_record(raw, _trust(stage))
    except Rejected as rejected:
        tell.say(f"refused {what}: {rejected.cause} ({rejected.detail[:110]})")
        return
    raise StepError(f"the record was accepted {what}")


def _one_byte_changed(raw: bytes) -> bytes:
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]


def _recomputed(raw: bytes) -> bytes:
    """As a participant would do it that wants a message of the middle never to have been."""
    chained = parse_record(raw)
    messages = [index for index, entry in enumerate(chained.entries) if entry.kind == MESSAGE]
    left_out = messages[len(messages) // 2]
    forged: list[bytes] = []
    for index, entry in enumerate(chained.entries):
        if index == left_out:
            continue
        copy = RecordEntry()
        copy.CopyFrom(entry)
        copy.number, copy.previous = len(forged) + 1, head_of(forged)
        forged.append(copy.SerializeToString(deterministic=True))
    assert chained.entries[-1].kind == COUNTERSIGNATURE
    record = Record(version=1, conference_id=chained.conference_id, user=chained.user, entries=forged)
    return record.SerializeToString(deterministic=True)
