"""`mcsa groups`: what this host's MSM does for each multicast group, and what became of the packets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from mcsa.cli.showing import HostOption, JsonOption, out, plain, run, short, show_json, show_table
from mcsa.sdk.conference import connect
from mcsa.v1.msm_pb2 import GroupState, SourceForgery

_NO_LOSS = {"sent", "opened", "own", "relaying-sent", "clock-set"}  # counters that tell of no packet lost
FORGERIES_SHOWN = 3  # of each group, the last ones
_INTERFACE = ("tun.", "host.")  # the interface's, or the host's, whichever group: the same with each
_HELD = "held-"  # what became of packets that are counted as "unknown-epoch" already


def groups(host: HostOption = None, json: JsonOption = False) -> None:
    """List this host's multicast groups: epoch, packets sent and opened, and what was dropped, by cause."""

    async def work() -> list[GroupState]:
        async with connect(host=host) as me:
            return await me.groups()

    found = run(work())
    if json:
        show_json([plain(state) for state in found])
        return
    columns = ("group", "address", "state", "epoch", "sent", "opened")
    show_table(columns, map(_row, found), "this host is in no group; join a conference first", unbroken=columns)
    for state in found:
        out.print(more(state), markup=False)
    if common := shared(state.packets for state in found):
        out.print(f"all groups of this host: {common}", markup=False)
    for trouble in sorted({state.network for state in found} - {""}):
        out.print(f"network: {trouble}", markup=False)
    for state in found:
        for forgery in state.forgeries[-FORGERIES_SHOWN:]:
            out.print(f"{state.group.name}: {forged(forgery)}", markup=False)


def forged(forgery: SourceForgery) -> str:
    """A packet that was not its sender's, for people; `--json` has it whole."""
    at = datetime.fromtimestamp(forgery.time_ms / 1000, UTC).strftime("%H:%M:%S UTC")
    by = f", by the relaying agent {short(forgery.relay)}" if forgery.relay else ""
    whose = short(forgery.host) or f"sender {forgery.sender_id}"
    return f"at {at} a member sent in the name of {whose}, from {forgery.source}{by}: {forgery.cause}"


def _row(state: GroupState) -> tuple[object, ...]:
    group, packets = state.group, state.packets
    return (
        group.name,
        f"{group.address}:{group.port}",
        state.state,
        state.epoch,
        packets.get("sent", 0),
        packets.get("opened", 0),
    )


def more(state: GroupState) -> str:
    """What has no room in the table."""
    group = state.group
    fits = f"payloads of up to {state.largest_payload} bytes, " if state.largest_payload else ""
    where = f"by {state.interface} as {state.own_address}, " if state.interface else ""
    senders = f"{len(state.roster)} senders"
    return f"{group.name}: {group.policy.wire}, {where}{fits}{senders}; dropped: {dropped(state.packets)}"


def dropped(packets: Mapping[str, int]) -> str:
    """Counters of what was not delivered or not sent, the most frequent first; each packet under one cause."""
    passed = (_HELD, *_INTERFACE)
    causes = {cause: n for cause, n in packets.items() if cause not in _NO_LOSS and not cause.startswith(passed)}
    if "unknown-epoch" in causes:
        causes["unknown-epoch"] -= packets.get("held-then-opened", 0)
    return _listed(causes) or "none"


def shared(groups: Iterable[Mapping[str, int]]) -> str:
    """Counters of the TUN interface and of the kernel, which tell nothing of one group; "" where there is none."""
    counted: dict[str, int] = {}
    for packets in groups:
        for cause, count in packets.items():
            if cause.startswith(_INTERFACE):
                counted[cause] = max(count, counted.get(cause, 0))  # each group has them, as of a moment later
    return _listed(counted)


def _listed(counted: Mapping[str, int]) -> str:
    some = [(count, cause) for cause, count in counted.items() if count]
    return ", ".join(f"{count} {cause}" for count, cause in sorted(some, key=lambda each: (-each[0], each[1])))
