"""Group key management protocols: one file each, both halves in it."""

from mcsa.gkm.interface import (
    Authority,
    Change,
    Distributing,
    Distributor,
    Excluded,
    Joining,
    Member,
    Promises,
    Scheme,
    Subordinate,
    scheme_named,
    schemes,
)

__all__ = [
    "Authority",
    "Change",
    "Distributing",
    "Distributor",
    "Excluded",
    "Joining",
    "Member",
    "Promises",
    "Scheme",
    "Subordinate",
    "scheme_named",
    "schemes",
]
