"""Group policy: a small typed document with safe defaults. Who may do what is `services/authorizer/rules.py`."""

from __future__ import annotations

from collections.abc import Iterable

from mcsa.errors import Refused
from mcsa.source_authentication import mode_named, modes
from mcsa.v1.types_pb2 import GroupPolicy

DEFAULTS = GroupPolicy(
    suite="aes-256-gcm",
    gkm="lkh",
    source_authentication="none",
    wire="udp",
    hpke="x25519",
    batch_ms=20,
    activation_ms=250,  # enough for a rekey to reach all on a LAN before the first sender switches
    deactivation_ms=2_000,
    ejection_activation_ms=0,  # design, section 6
    ejection_deactivation_ms=500,  # design, section 6: the ejected still holds its key
    beacon_ms=1_000,
    beacon_silence_ms=15_000,
    rekey_s=3_600,
    replay_window=1_024,  # design, section 7
    lease_s=60,  # a host is missed for a minute at most; members renew after a third of it
    multicast_updates=True,  # members follow while the broker is out
    source_block=64,  # `tree`: a signature each 64 packets, seven digests' worth of proof at most
    source_block_ms=20,  # a voice packet's time
    tesla_interval_ms=100,  # `tesla`: RFC 4082, section 3.2: about the greatest delay, or the time between packets
    tesla_disclosure=3,  # intervals: packets have 200 ms to arrive, clocks' doubt included
    tesla_clock_ms=20,
)

_CHOICES = {
    "suite": ("aes-256-gcm", "aes-128-gcm", "chacha20-poly1305"),
    "source_authentication": tuple(modes()),
    "wire": ("udp", "esp"),
    "hpke": ("x25519", "x-wing"),
}
_TRUTHS = {"true": True, "false": False}
_KINDS = {bool: "true or false", int: "number", str: "text"}
_RANGES = {
    "batch_ms": (0, 10_000),
    "activation_ms": (0, 60_000),
    "deactivation_ms": (1, 120_000),
    "ejection_activation_ms": (0, 1_000),
    "ejection_deactivation_ms": (1, 5_000),
    "beacon_ms": (100, 60_000),
    "beacon_silence_ms": (300, 600_000),
    "rekey_s": (1, 86_400),
    "replay_window": (64, 65_536),
    "lease_s": (3, 604_800),
    "subgroup_size": (0, 1_024),
    "source_block": (1, 64),
    "source_block_ms": (1, 1_000),
    "tesla_interval_ms": (10, 10_000),
    "tesla_disclosure": (2, 16),  # RFC 4082, section 3.6: d = 1 leaves no time at all
    "tesla_clock_ms": (1, 10_000),
}


def complete_policy(asked: GroupPolicy) -> GroupPolicy:
    """A policy with the defaults where nothing was said; `Refused("policy")` where it says what can't be."""
    policy = GroupPolicy()
    policy.CopyFrom(DEFAULTS)
    policy.MergeFrom(asked)  # proto3: zero means nothing was said, but where a field is `optional`
    for name, choices in _CHOICES.items():
        if getattr(policy, name) not in choices:
            _refuse(name, f"'{getattr(policy, name)}' is none of {', '.join(choices)}")
    for name, (least, most) in _RANGES.items():
        if not least <= getattr(policy, name) <= most:
            _refuse(name, f"{getattr(policy, name)} is not between {least} and {most}")
    if policy.deactivation_ms <= policy.activation_ms:
        _refuse("deactivation_ms", "the old key must outlive the activation delay (RFC 5374, DTD > ATD)")
    if policy.ejection_deactivation_ms <= policy.ejection_activation_ms:
        _refuse("ejection_deactivation_ms", "the old key must outlive the activation delay (RFC 5374, DTD > ATD)")
    if policy.beacon_silence_ms < 3 * policy.beacon_ms:
        _refuse("beacon_silence_ms", "a sender must be allowed to miss two beacons: at least three times beacon_ms")
    mode_named(policy.source_authentication).check(policy)
    return policy


def parse_policy(texts: Iterable[str]) -> GroupPolicy:
    """What "name=value" texts say, as announcements and command lines have them; "True" and "False" in any case.

    `Refused("policy")` where a name is none, or a value none of its kind; whether it can be so is `complete_policy`'s.
    """
    policy = GroupPolicy()
    fields = GroupPolicy.DESCRIPTOR.fields_by_name
    for text in texts:
        name, _, value = text.partition("=")
        if name not in fields:
            _refuse(name[:40], f"no policy has that name; there are: {', '.join(fields)}")
        kind = type(getattr(policy, name))
        try:
            setattr(policy, name, _TRUTHS[value.lower()] if kind is bool else kind(value))
        except (KeyError, ValueError):
            _refuse(name, f"'{value[:40]}' is no {_KINDS[kind]}")
    return policy


def _refuse(field: str, what: str) -> None:
    raise Refused("policy", f"group-policy.{field}", f"{field}: {what}")
