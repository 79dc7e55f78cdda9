"""What the tests of ESP share: keys, a sender, a receiver, and a batch from one to the other."""

from __future__ import annotations

from collections.abc import Sequence

from mcsa.esp.checksum import InnerChecksum
from mcsa.esp.derive import TrafficKey, derive_traffic_key
from mcsa.esp.inbound import InboundAssociations, OpenedBatch
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.slab import Slab
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey

DOMAIN = "example.org"
GROUP_ID = bytes(range(16))
KEY = GroupKey(bytes(range(32)))
OTHER_KEY = GroupKey(bytes(range(1, 33)))
EPOCH = 1_700_000_000_000
SENDER = 5
SOURCE = "198.18.0.5"
SUITES = ("aes-256-gcm", "aes-128-gcm", "chacha20-poly1305")


def traffic_key(
    suite: str = "aes-256-gcm", epoch: int = EPOCH, sender: int = SENDER, key: GroupKey = KEY
) -> TrafficKey:
    return derive_traffic_key(key, DOMAIN, GROUP_ID, epoch, suite_named(suite), sender)


def outbound(
    suite: str = "aes-256-gcm",
    epoch: int = EPOCH,
    sender: int = SENDER,
    key: GroupKey = KEY,
    checksum: InnerChecksum | None = None,
) -> OutboundAssociation:
    return OutboundAssociation(traffic_key(suite, epoch, sender, key), checksum)


def inbound(suite: str = "aes-256-gcm", window: int = 1_024) -> InboundAssociations:
    """A receiver that has the epoch and knows one sender."""
    made = InboundAssociations(DOMAIN, GROUP_ID, suite_named(suite), window)
    made.install(EPOCH, KEY)
    made.set_roster({SENDER: SOURCE})
    return made


def open_together(receiver: InboundAssociations, packets: Sequence[bytes], source: str = SOURCE) -> OpenedBatch:
    """The packets as UDP_GRO would hand them over: all of one size, the last one perhaps shorter."""
    slab, together = Slab(), b"".join(packets)
    slab.view[: len(together)] = together
    return receiver.open_batch(slab, len(together), len(packets[0]), source)
