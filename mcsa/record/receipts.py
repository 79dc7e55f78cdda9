"""Receipts, set against the messages that they are for: receiver non-repudiation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mcsa.record.findings import Noted, Receipted
from mcsa.record.messages import Said


def match_receipts(all_said: Sequence[Said]) -> tuple[tuple[Receipted, ...], tuple[Noted, ...]]:
    """The receipts for messages of the record; and those for other bytes than the sender signed to this writer, or
    for messages that are not here. A receipt may stand before its message: streams overtake each other."""
    by_place = {(said.process_id, said.sequence): said for said in all_said}
    good: list[Receipted] = []
    wrong: list[Noted] = []
    for said in all_said:
        if not said.message.HasField("receipt"):
            continue
        receipt = said.message.receipt
        of = by_place.get((receipt.process_id, receipt.sequence))
        if of is None:
            wrong.append(Noted(said.entry, said.user, "a receipt for a message that is not in this record"))
        elif receipt.message_hash != hashlib.sha256(of.raw).digest():
            wrong.append(Noted(said.entry, said.user, f"a receipt for other bytes than those of entry {of.entry}"))
        else:
            good.append(Receipted(said.entry, said.user, of.user, of.entry))
    return tuple(good), tuple(wrong)
