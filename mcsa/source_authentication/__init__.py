"""Source authentication: which member said it. One file per mode, both halves in it."""

from mcsa.source_authentication.clock_bound import ClockBound
from mcsa.source_authentication.interface import (
    CAUSES,
    Block,
    Buffer,
    Claim,
    Clock,
    Content,
    Mode,
    Promises,
    Prover,
    Receiver,
    Sender,
    Setting,
    Verdict,
    mode_named,
    modes,
)
from mcsa.source_authentication.source_key import PUBLIC_SIZE, SourceKey, SourcePublicKey

__all__ = [
    "CAUSES",
    "PUBLIC_SIZE",
    "Block",
    "Buffer",
    "Claim",
    "Clock",
    "ClockBound",
    "Content",
    "Mode",
    "Promises",
    "Prover",
    "Receiver",
    "Sender",
    "Setting",
    "SourceKey",
    "SourcePublicKey",
    "Verdict",
    "mode_named",
    "modes",
]
