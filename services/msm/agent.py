"""A relaying agent at work: what two engines of this host, of a subgroup and of the backbone, carry into one another.

    leaf's receive thread, its send thread for what this host says -> up   -> backbone's socket
    backbone's receive thread                                      -> down -> leaf's socket, applications

One lock for each direction: a packet is decided on, sealed and sent by one thread at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from services.msm.engine import GroupEngine
from services.msm.path import Received
from services.msm.relaying import RelayingAgent


class AgentAtWork:
    """From `start` to `stop`."""

    def __init__(self, backbone: GroupEngine, leaf: GroupEngine) -> None:
        self._backbone = backbone
        self._leaf = leaf
        self._agent = RelayingAgent(backbone.path, leaf.path)
        self._up = threading.Lock()
        self._down = threading.Lock()

    def start(self) -> None:
        """Packets pass from now on."""
        self._leaf.heard = self._heard_in_leaf
        self._leaf.said = self._said_in_leaf
        self._backbone.heard = self._heard_on_backbone

    def stop(self) -> None:
        """And no longer."""
        self._leaf.heard = self._leaf.said = self._backbone.heard = None

    def _heard_in_leaf(self, found: Sequence[Received]) -> None:
        self._leaf.deliver([packet for packet in found if packet.relay is None])
        self._said_in_leaf(found)

    def _said_in_leaf(self, found: Sequence[Received]) -> None:
        with self._up:
            for relayed in self._agent.from_leaf(found):
                self._backbone.send_relayed(relayed)

    def _heard_on_backbone(self, found: Sequence[Received]) -> None:
        self._leaf.deliver(found)
        with self._down:
            for relayed in self._agent.from_backbone(found):
                self._leaf.send_relayed(relayed)
