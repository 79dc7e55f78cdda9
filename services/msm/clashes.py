"""Two sessions at one address: which of them has to move. Pure.

The one that was there first stays, so nobody who announces an address of ours afterwards makes us go. Where both began
within a few seconds, none had heard of the other: of two that have rules like these the one with the larger o= line
moves, and of one that has none and ours, ours. What was first is what this domain's directory heard, never what an
announcement says of itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from mcsa.errors import Rejected
from mcsa.sap.entry import OURS
from mcsa.sap.sdp import Sdp, parse_sdp
from mcsa.v1.types_pb2 import SessionAnnouncement

AT_ONCE = 5.0  # seconds: less than that apart, nobody can have known
STAYS, MOVES = "clash", "move-wanted"


def worst_clash(own: bytes, clashes: Iterable[SessionAnnouncement], announced_at: float) -> tuple[str, str]:
    """What has to become of the session that is announced as `own` since `announced_at`, and why, for people: "" where
    nothing clashes that could be read."""
    ours, found = parse_sdp(own), (STAYS, "")
    for clash in clashes:
        try:
            theirs = parse_sdp(clash.sdp)
        except Rejected:
            continue
        shared = ", ".join(sorted(ours.addresses() & theirs.addresses()))
        if not shared:  # the directory's word, of addresses that were left meanwhile
            continue
        change = MOVES if _we_move(ours, theirs, announced_at, clash.first_heard_ms / 1000) else STAYS
        if not found[1] or change == MOVES:
            found = change, f"{shared} is also used by '{theirs.title[:60]}' from {clash.source}"
        if change == MOVES:
            break
    return found


def _we_move(ours: Sdp, theirs: Sdp, announced_at: float, first_heard_at: float) -> bool:
    if abs(first_heard_at - announced_at) >= AT_ONCE:
        return first_heard_at < announced_at
    return theirs.attribute(OURS) is None or ours.session > theirs.session
