"""Source keys of a group's senders, by sender ID: beside the members, of which most groups need none of this."""

from __future__ import annotations

from collections.abc import Mapping

from mcsa.errors import Refused, Rejected
from mcsa.source_authentication import SourcePublicKey, mode_named
from mcsa.v1.authorizer_pb2 import RegisterRequest, RegisterSenderRequest
from mcsa.v1.types_pb2 import GroupPolicy


class SourceKeys(dict[int, bytes]):
    """What the roster says of each sender."""

    def __init__(self, kept: Mapping[int, bytes] | None = None) -> None:
        super().__init__(kept or {})

    def of(self, sender_id: int | None) -> bytes:
        """Empty where there is none."""
        return b"" if sender_id is None else self.get(sender_id, b"")

    def give(self, sender_id: int | None, key: bytes) -> None:
        """A sender that came."""
        if sender_id is not None and key:
            self[sender_id] = key


def check_source_key(request: RegisterRequest | RegisterSenderRequest, policy: GroupPolicy) -> None:
    """`Refused("key-material")` where a sender has none, and the group's policy needs one. A relaying agent has others'
    packets to send, which are authenticated already."""
    needed = mode_named(policy.source_authentication).promises.authenticates
    if not needed or (isinstance(request, RegisterRequest) and (request.relay or not request.sender)):
        return
    try:
        SourcePublicKey(request.source_key)
    except Rejected as rejected:
        sentence = (
            f"this group authenticates sources by '{policy.source_authentication}', and the registration's source key "
            f"can't be used: {rejected}; is the host's software as new as the Authorizer's?"
        )
        raise Refused("key-material", rejected.cause, sentence) from None
