"""Group key management protocols: one file each, both halves in it."""

from mcsa.gkm.interface import (
    Authority,
    Change,
    Excluded,
    Joining,
    Member,
    Promises,
    Scheme,
    scheme_named,
    schemes,
)

__all__ = [
    "Authority",
    "Change",
    "Excluded",
    "Joining",
    "Member",
    "Promises",
    "Scheme",
    "scheme_named",
    "schemes",
]
