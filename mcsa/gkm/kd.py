"""Harkins & Doraswamy's multicast key management (MKMP, draft of November 1997), in essence.

The initiator's key manager (our Authorizer) makes the group key and delegates the right to distribute it to members
that it chooses. A joiner goes to the nearest key distributor, which holds it against the access list it was given and
hands over the same keys. There is one key for the group, so somebody's leaving means new keys for each that stays.

What maps to what:

- initial key manager: `KeyManager`, at the Authorizer.
- delegation: a signed statement of the Authorizer's (distributor, group, validity, hash of the access list), shown to
  each joiner; without one a member's `welcome` is not to be accepted, though its keys would make one.
- key distributor: a `FlatMember` that was appointed, by `welcome`; its signed reports come in by `adopt`.
- the exchange between joiner and distributor (ISAKMP in the draft): a fresh X25519 key on both sides, in a welcome
  that is sealed to the joiner and signed.
- a distributor in another domain: that domain's Authorizer, a member of the group here, whose own `KeyManager` works
  with the keys from above (`impose`) and keeps KEKs and members of its own.

Statements, signatures and how a joiner finds the nearest distributor are the system's; this module has the keys.
The draft itself could not be had: what it leaves open to us is taken from descriptions of it, and decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mcsa.gkm.flat import FlatAuthority, FlatScheme
from mcsa.gkm.interface import Change, Promises
from mcsa.keys import GroupKey
from mcsa.v1.gkm_flat_pb2 import FlatRecord


class KeyManager(FlatAuthority):
    """The Authorizer's half: draws the group's keys, or takes them from above."""

    _imposed: GroupKey | None = None
    _subordinate = False

    def impose(self, key: GroupKey) -> None:
        """See `interface.Subordinate.impose`."""
        self._subordinate = True
        self._imposed = key if key != self.key else None

    def change(self, joins: Mapping[str, bytes], leaves: Sequence[str], *, replace_key: bool) -> Change:
        """See `interface.Authority.change`, and `impose`."""
        change = super().change(joins, leaves, replace_key=replace_key or self._imposed is not None)
        self._imposed = None
        return change

    def _new_group_key(self) -> GroupKey:
        if not self._subordinate:
            return super()._new_group_key()
        if self._imposed is None:
            raise RuntimeError("this group's key comes from above: impose one first")
        return self._imposed

    def _message(self, joined: Iterable[str], left: Sequence[str]) -> FlatRecord:
        message = super()._message(joined, left)
        message.subordinate = self._subordinate
        return message

    def _repeat(self, message: FlatRecord) -> None:
        super()._repeat(message)
        self._subordinate, self._imposed = message.subordinate, None


class Kd(FlatScheme):
    """The plug-in. Who joins at a distributor gets the present key, and can read this epoch from its start."""

    name = "kd"
    title = "Delegated key distributors (MKMP), Harkins & Doraswamy"
    promises = Promises(
        forward_secrecy=True,
        backward_secrecy=True,
        trusted_with_keys="the Authorizer, and the distributors it appointed, with whom they give the present keys to",
        join_cost="1 sealed answer, 1 wrap multicast; at a distributor 1 sealed answer, and the key stays",
        leave_cost="n wraps in one multicast",
    )

    authority = KeyManager
    distributors = "appointed"


SCHEME = Kd()
