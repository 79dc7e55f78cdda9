"""Mode `tesla`: a MAC under a key that is disclosed later (RFC 4082).

    content      interval i, MAC under F'(K_i), key K_i-d, payload
    disclosure   the same without a payload: what was said last would else have to wait for what is said next
    bootstrap    a chain's first interval, N and commitment K_0, signed by the source's key; repeated each second

Intervals are counted from 1970 by the Authorizer's clock (`clock_bound.py`), in the policy's `tesla_interval_ms`: T_0
of a chain is its first interval's beginning, and interval length and d (`tesla_disclosure`) are the policy's, which the
signature covers. So a receiver can tell what is safe before it has heard a bootstrap, and keeps it: who comes late
hears one within a second. A packet is believed after three tests:

    safe    K_i can't have been disclosed yet: latest time < (i + d) x interval; else it is dropped
    key     K_i-d leads, by hashing, to the signed commitment: N hashes at most, and a bounded number in a second
    MAC     of all that was kept for an interval, once its key is known

MAC and signature cover what `interface.py` says, the mode's own packets included, so that nobody moves a source's
anti-replay window with what it disclosed. This is no signature: it shows nothing to who hears it later.
"""

from __future__ import annotations

from mcsa.errors import Refused
from mcsa.source_authentication.interface import Promises, Setting
from mcsa.source_authentication.source_key import SourceKey, SourcePublicKey
from mcsa.source_authentication.tesla_receiver import TeslaReceiver
from mcsa.source_authentication.tesla_sender import TeslaSender
from mcsa.source_authentication.tesla_wire import NAME, OVERHEAD
from mcsa.v1.types_pb2 import GroupPolicy


class _Tesla:
    name = NAME
    title = "a MAC under a key that is disclosed later"
    promises = Promises(
        authenticates=True,
        explicit_signatures=False,
        transferable=False,
        delay="until disclosure, at the receiver",
        at_once=False,
    )
    needs_clock = True

    def overhead(self, policy: GroupPolicy) -> int:
        return OVERHEAD

    def check(self, policy: GroupPolicy) -> None:
        """What is sent at an interval's end has `tesla_disclosure` less 1 intervals to arrive."""
        room = (policy.tesla_disclosure - 1) * policy.tesla_interval_ms
        if policy.tesla_clock_ms >= room:
            sentence = (
                f"tesla_clock_ms: {policy.tesla_clock_ms} ms of doubt about clocks leave no time for packets to arrive "
                f"before their key is disclosed; take less than {room}, longer intervals, or a later disclosure"
            )
            raise Refused("policy", "group-policy.tesla_clock_ms", sentence)

    def sender(self, setting: Setting, key: SourceKey) -> TeslaSender:
        return TeslaSender(setting, key)

    def receiver(self, setting: Setting, sender_id: int, key: SourcePublicKey) -> TeslaReceiver:
        return TeslaReceiver(setting, key)


MODE = _Tesla()
