"""A relaying agent (Iolus): carries packets between a leaf subgroup and the backbone, on a host that is in both.

    leaf's network     -> GroupPath.open -> from_leaf     -> backbone's GroupPath.relay_batches -> backbone's network
    backbone's network -> GroupPath.open -> from_backbone -> leaf's GroupPath.relay_batches     -> leaf's network

The subgroups are a star, so no packet passes more than two agents, and none comes back where it was:

- what an agent sealed itself it does not hear, in either subgroup: its path drops its own sender IDs (`own`);
- from the leaf only what was said there goes up. What was relayed into it came from the backbone, by another agent;
- from the backbone everything goes down, what was relayed into it with its origin kept as it is, but what was said in
  this leaf;
- updates and beacons are each subgroup's own;
- what authenticates a source is carried on unchanged: it covers what the origin header says. What is not proved yet
  when it comes (`tesla`) is carried before, since it would come too late after.

What the agent's own host says is not heard by it either: `from_leaf` and `from_backbone` take that too, as
`GroupPath.seal_and_hear` gives it. What is relayed twice all the same (two agents, one that restarted) each receiver
takes once (`mcsa.esp.origins`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from mcsa.esp.relayed import MAX_RELAYED
from mcsa.updates import PORT as UPDATE_PORT
from services.msm.path import GroupPath, Received


class Relayed(NamedTuple):
    """What to seal into the other subgroup: the arguments of its `GroupPath.relay_batches`."""

    payloads: list[bytes]  # each with its origin in front
    source_port: int
    destination_port: int


class RelayingAgent:
    """See the module. Sans-I/O. Counts what it relays in either direction, and by cause what it doesn't:

    ============  ==================================================================
    `update`      for the update port
    `hopped`      relayed into the leaf already, so it has been on the backbone
    `returning`   of a sender of the leaf: it was said there
    `too-long`    no room for the origin (`mcsa.esp.relayed.MAX_RELAYED`)
    `silenced`    heard where this host doesn't follow any more, and who was thrown out may be heard yet
    ============  ==================================================================

    One thread may call `from_leaf` while another calls `from_backbone`; neither by two at once.
    """

    def __init__(self, backbone: GroupPath, leaf: GroupPath) -> None:
        self.backbone = backbone
        self.leaf = leaf
        self.counters: Counter[str] = Counter()

    def from_leaf(self, found: Iterable[Received]) -> list[Relayed]:
        """What to seal into the backbone of what was heard in the leaf, in the same order."""
        return self._relay(found, "up", self._stays_in_leaf)

    def from_backbone(self, found: Iterable[Received]) -> list[Relayed]:
        """What to seal into the leaf of what was heard on the backbone, in the same order."""
        return self._relay(found, "down", self._stays_on_backbone)

    def _stays_in_leaf(self, packet: Received) -> str:
        if self.leaf.is_paused:
            return "silenced"
        return "hopped" if packet.relay is not None else ""

    def _stays_on_backbone(self, packet: Received) -> str:
        if self.backbone.is_paused:
            return "silenced"
        return "returning" if self.leaf.has_sender(packet.sender_id) else ""

    def _relay(self, found: Iterable[Received], way: str, stays: Callable[[Received], str]) -> list[Relayed]:
        """All but what stays: by its own cause, or one that is the same both ways."""
        going = []
        for packet in found:
            if not packet.is_carried:
                continue
            cause = stays(packet) or _unfit(packet)
            self.counters[f"{way}.{cause or 'relayed'}"] += 1
            if not cause:
                going.append(packet)
        return [
            Relayed([packet.origin.encode() + packet.carried for packet in alike], *ports)
            for ports, alike in groupby(going, _ports)
        ]


_ports = attrgetter("source_port", "destination_port")


def _unfit(packet: Received) -> str:
    if packet.destination_port == UPDATE_PORT:
        return "update"
    return "too-long" if len(packet.carried) > MAX_RELAYED else ""
