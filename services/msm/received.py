"""What a group's packet path gives to the applications, and to a relaying agent."""

from __future__ import annotations

from typing import NamedTuple

from mcsa.esp.relayed import Origin


class Received(NamedTuple):
    """Plaintext for the applications, and by which numbers of its origin it is known in the whole group."""

    sender_id: int  # of who said it, by whatever relaying agent it came
    source_port: int
    destination_port: int
    payload: bytes
    epoch: int
    sequence: int
    relay: int | None = None  # the sender ID of the relaying agent that it came by
    authenticated: bytes = b""  # the payload with what authenticates its source, where the group's policy does
    is_heard: bool = True  # for the applications; else only to be carried on, since its proof is still to come
    is_carried: bool = True  # to be carried on by a relaying agent; else that was done before its proof came

    @property
    def origin(self) -> Origin:
        """As the header that agents write says it."""
        return Origin(self.sender_id, self.epoch, self.sequence)

    @property
    def carried(self) -> bytes:
        """What an agent carries on: as the origin sealed it."""
        return self.authenticated or self.payload
