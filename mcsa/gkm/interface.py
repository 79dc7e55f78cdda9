"""What a group key management protocol (GKM) is to the rest of the system.

A plug-in is one module in this package with a class that satisfies `Scheme` and is named in its `SCHEME`. It holds both
halves: the Authorizer's, which turns membership changes into rekeys, and the member's, which turns rekeys into keys.
It knows neither sockets nor the bus nor conferences. Rekeys are opaque bytes to everybody else; how they are
numbered, signed, protected and delivered is `mcsa.updates`' business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol, runtime_checkable

from mcsa.errors import Refused
from mcsa.keys import GroupKey, Random
from mcsa.plug_ins import plug_ins


@dataclass(frozen=True, slots=True)
class Promises:
    """What a scheme states about itself; the conformance suite holds it to them."""

    forward_secrecy: bool  # who left, or was thrown out, learns no later key
    backward_secrecy: bool  # a newcomer learns no earlier key, where the join replaced it
    trusted_with_keys: str  # who has group keys besides the members
    join_cost: str  # in words of n members
    leave_cost: str
    subgroup_size: int = 0  # members of a subgroup at most, in a scheme of subgroups: what bounds its costs


@dataclass(frozen=True, slots=True)
class Change:
    """The outcome of a membership change."""

    rekey: bytes  # for those that were there before and stay; empty where the key stays
    welcomes: Mapping[str, bytes] = field(
        default_factory=dict, repr=False
    )  # for each newcomer; secret, to be sealed to it
    record: bytes = field(
        default=b"", repr=False
    )  # what has changed in the authority, for `Authority.apply`; secret, to be sealed
    wraps: int = 0  # keys wrapped under other keys: what it cost


class Authority(Protocol):
    """The Authorizer's half, one per group."""

    @property
    def key(self) -> GroupKey:
        """The group key as it is now."""

    def change(self, joins: Mapping[str, bytes], leaves: Sequence[str], *, replace_key: bool) -> Change:
        """Admits and removes members in one go.

        `joins` maps a member's name to what its half contributed. Whoever leaves, the key is replaced; with
        `replace_key` also when nobody does (a join with backward secrecy, or the key's age). A name in both leaves as
        the old and joins as the new. Contributions were checked before. Who leaves and was no member is ignored; only
        where members serve joins too it counts as one that left, since it may have been welcomed and not yet adopted.
        """

    def check_contribution(self, contribution: bytes) -> None:
        """Raises `Rejected("contribution")` where `change` could not use it."""

    def apply(self, record: bytes) -> None:
        """Repeats a change that another instance made in the same state, from its `Change.record`.

        Draws no randomness: afterwards both hold the same keys, and the next change of either can be followed by the
        other. Raises `Rejected("record")` for bytes that make no sense, and changes nothing.
        """

    def snapshot(self) -> bytes:
        """All of its state, for `Scheme.restore`; secret, to be sealed."""


@runtime_checkable
class Distributing(Protocol):
    """An authority of a scheme in which members serve joins too (`Scheme.distributors`).

    Whom to believe that somebody was welcomed, and that the contribution is that one's and not the distributor's own,
    is the caller's to find out before: an adopted contribution follows the group until its name leaves.
    """

    @property
    def public_key(self) -> bytes:
        """Of this group, for its life. A welcome that names another one leads to another group: worth signing."""

    def adopt(self, joined: Mapping[str, bytes]) -> bytes:
        """Takes over members that a distributor has welcomed, with what they contributed; returns the record for
        `Authority.apply`. The group key stays.

        Until then such a member follows rekeys where nobody left; one where somebody left excludes it. The same
        members again change nothing; a name that is a member's already takes its place. Raises
        `Rejected("contribution")` where one of them can't be used, and adopts none.
        """


@runtime_checkable
class Subordinate(Protocol):
    """An authority whose group keys can come from above.

    A second domain's Authorizer is a member of a group of the first's, and distributes that group's key to members of
    its own, under KEKs of its own.
    """

    def impose(self, key: GroupKey) -> None:
        """The next `change` takes this group key in place of a fresh one, and replaces the key whatever else it does.

        The present key again imposes nothing. From the first time on the authority never draws a group key itself:
        a change that replaces the key (somebody left, `replace_key`) without one imposed raises `RuntimeError` and
        changes nothing; who left here, the authority above has to be told first. An imposed key is in no record and
        no snapshot before the change that takes it.
        """


class Member(Protocol):
    """A member's half."""

    @property
    def key(self) -> GroupKey:
        """The group key as far as this member knows."""

    @property
    def keys_held(self) -> int:
        """How many secret keys it keeps, the group key included: what membership costs it."""

    def process(self, rekey: bytes) -> GroupKey:
        """The key after a rekey.

        Raises `Rejected("rekey")` for bytes that make no sense, `Excluded` where the rekey leads this member to no
        key. Either way nothing has changed.
        """


@runtime_checkable
class Distributor(Protocol):
    """A member's half in a scheme in which members serve joins too.

    It can welcome as long as it follows the group. Whether it may, and whom, is the caller's to know.
    """

    @property
    def authority_public_key(self) -> bytes:
        """What its own welcome named: `Distributing.public_key`, unless who welcomed it lied."""

    def welcome(self, contribution: bytes) -> bytes:
        """For a newcomer near by, with the present group key; secret, to be sealed to it. The key stays.

        Raises `Rejected("contribution")`.
        """


class Joining(Protocol):
    """A member's half before it is one."""

    @property
    def contribution(self) -> bytes:
        """Public bytes for the Authorizer; may be empty."""

    def finish(self, welcome: bytes) -> Member:
        """The member; `Rejected("welcome")` where the bytes make no sense."""


class Scheme(Protocol):
    """A plug-in."""

    name: str
    title: str
    promises: Promises
    distributors: str  # "none"; "members": each may serve joins; "appointed": those that the Authorizer appointed
    members_at_most: int | None  # in one group, so that every rekey fits into a message; None: that is no bound
    subgroups: bool  # a group of this scheme is many, each with a key and an address of its own, joined by relays

    def create(self, random: Random) -> Authority:
        """A new group, without members, with a fresh random key."""

    def restore(self, snapshot: bytes, random: Random) -> Authority:
        """A group as it was when the snapshot was taken; `Rejected("record")` where the bytes make no sense."""

    def begin(self, random: Random) -> Joining:
        """A member's half at the start."""


class Excluded(Exception):  # noqa: N818
    """The rekey was not meant for this member: it was thrown out, or has missed too much. Register again."""


@cache
def schemes() -> dict[str, Scheme]:
    """All plug-ins found in this package, by name."""
    return {scheme.name: scheme for scheme in plug_ins(__package__, "SCHEME").values()}


def scheme_named(name: str) -> Scheme:
    """The plug-in of that name, or `Refused` with the names there are."""
    try:
        return schemes()[name]
    except KeyError:
        known = ", ".join(sorted(schemes()))
        sentence = f"there is no group key management protocol '{name}'; there are: {known}"
        raise Refused("unknown-gkm", "gkm", sentence) from None
