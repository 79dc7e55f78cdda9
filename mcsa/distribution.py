"""Members that serve joins: what the Authorizer lets them do, and what all sides check of it alike.

In a group of `cbt` (RFC 1949) or `kd` (Harkins & Doraswamy) a newcomer may be welcomed by a member near it. That member
holds a `DistributionRight`: the Authorizer's signature over group, host, a block of sender IDs, the hash of an access
list, and for how long. What maps to what: the right with its access list is RFC 1949's access list signed by the core;
the association that a distributor seals to a newcomer is its group access package; a report is how the core learns of
the join.

    Authorizer --- right, access list (sealed) ---> distributor        with its association, and at each renewal
    newcomer --- RegisterRequest, to the group ---> distributor        user's statement, list, own state
    newcomer <-- association (sealed), right ------ distributor        who signed it, whom for, which sender ID and key
    Authorizer <-- the request as received -------- distributor        all of it again; then the roster, or a new key

The newcomer hears the group from then on; it is heard once the Authorizer's signed update has it in the roster. That
update, as any, has the digest of the whole roster: until then nothing that the distributor said of others proves who
said something (`mcsa.source_authentication`), and where the digest is another one the newcomer registers with the
Authorizer.

What a distributor could lie about for longer: epoch and number, which make the newcomer register likewise once it hears
a beacon; then the Authorizer's word holds. It could as well give the keys away: it has them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from google.protobuf.message import DecodeError

from mcsa.encoding import digest, encode_parts
from mcsa.envelope import CLOCK_SKEW
from mcsa.errors import Refused, Rejected
from mcsa.identity import Credentials
from mcsa.sealing import SealingKey, seal_to
from mcsa.statements import DISTRIBUTION_RIGHT_LABEL
from mcsa.trust import Trust
from mcsa.v1.authorizer_pb2 import AccessList, DistributionRight
from mcsa.v1.types_pb2 import POLICY_CLASS_OPEN, RosterEntry, SignedStatement

RIGHT_FOR = 300.0  # seconds that a right holds; it is renewed with the membership, three times in a lease
ACCESS_LIST_LABEL = "mcsa access list v1"
ENTRY_LABEL, ROSTER_LABEL = "mcsa roster entry v1", "mcsa roster v1"


def access_list_hash(access_list: bytes) -> bytes:
    """SHA-256 of a serialised `AccessList`, as in the right."""
    return hashlib.sha256(access_list).digest()


# ---- the right


def sign_right(authorizer: Credentials, right: DistributionRight) -> SignedStatement:
    """The Authorizer's word."""
    return authorizer.sign_statement(DISTRIBUTION_RIGHT_LABEL, right.SerializeToString())


def open_right(
    signed: SignedStatement,
    authorizer: str,
    group_id: bytes,
    distributor: str,
    trust: Trust,
    now: float,
    *,
    peers: bool = False,
) -> DistributionRight:
    """A right that is in force: what this Authorizer, with `peers` perhaps another domain's, signed for this group and
    this host, or Authorizer.

    Raises `Rejected`: those of `Trust.open_statement`, and "right" for another signer, group or host, one that is
    malformed, has expired (30 s of clock skew tolerated) or holds for longer than an Authorizer would say.
    """
    signer = trust.open_statement(signed, DISTRIBUTION_RIGHT_LABEL, now, "authorizer", peers=peers)
    try:
        right = DistributionRight.FromString(signed.statement)
    except DecodeError:
        raise Rejected("right", "malformed") from None
    if str(signer.id) != authorizer:
        raise Rejected("right", "of another Authorizer")
    if right.group_id != group_id:
        raise Rejected("right", "for another group")
    if right.distributor != distributor:
        raise Rejected("right", "another host's")
    expires_at = right.expires_ms / 1000
    if now > expires_at + CLOCK_SKEW:
        raise Rejected("right", "expired")
    if expires_at > now + RIGHT_FOR + CLOCK_SKEW:
        raise Rejected("right", "holds too long")
    return right


def covers(right: DistributionRight, sender_id: int) -> bool:
    """The right's block has this sender ID."""
    return right.first_sender_id <= sender_id < right.first_sender_id + right.sender_ids


# ---- the roster


def entry_digest(entry: RosterEntry) -> bytes:
    """SHA-256 of all that a roster says of one sender."""
    flags = entry.relay | entry.distant << 1 | entry.send_only << 2
    told = entry.sender_id, entry.host, entry.address, entry.source_key, flags
    return digest(ENTRY_LABEL, *told, *entry.users)


def roster_digest(entries: Mapping[int, bytes]) -> bytes:
    """SHA-256 of a whole roster: of its entries' digests, given by sender ID, in the order of these."""
    return digest(ROSTER_LABEL, *(entries[sender_id] for sender_id in sorted(entries)))


# ---- the access list


def seal_access_list(suite: str, public_key: bytes, request_hash: bytes, access_list: bytes) -> bytes:
    """A serialised `AccessList` for who asked with this key; `Rejected("suite")` for a malformed key."""
    return seal_to(suite, public_key, access_list, encode_parts(ACCESS_LIST_LABEL, request_hash))


def unseal_access_list(key: SealingKey, request_hash: bytes, sealed: bytes) -> bytes:
    """The other way; `Rejected("sealing")`."""
    return key.open(sealed, encode_parts(ACCESS_LIST_LABEL, request_hash))


def parse_access_list(raw: bytes, right: DistributionRight) -> AccessList:
    """The list that a right was given with; `Rejected("access-list")` for another one."""
    if access_list_hash(raw) != right.access_list:
        raise Rejected("access-list", "not the one of the right")
    try:
        return AccessList.FromString(raw)
    except DecodeError:
        raise Rejected("access-list", "malformed") from None


def check_access(listed: AccessList, host: str, user: str | None) -> None:
    """The Authorizer's built-in rules about joining (`services/authorizer/rules.py`), held against a list.

    Raises `Refused("not-allowed")` with the rule that forbids. Rules of an operator's own can't be held against by an
    MSM: where there are any, the Authorizer gives no rights.
    """
    access, open_to_all = listed.access, listed.policy_class == POLICY_CLASS_OPEN
    named = host in access.acceptable_hosts
    if access.acceptable_hosts and not named:
        _refuse("listed-hosts-only", host)
    if host in access.unacceptable_hosts:
        _refuse("unacceptable-host", host)
    if user is None:
        if not open_to_all and not named:
            _refuse("closed-group-needs-a-user", host)
        return
    if not open_to_all and user != listed.coordinator and user not in access.acceptable_users:
        _refuse("closed-group-admits-acceptable-users-only", user)
    if user in access.unacceptable_users:
        _refuse("unacceptable-user", user)


def _refuse(rule: str, who: str) -> None:
    raise Refused("not-allowed", rule, f"{who} may not join, by the access list of this group")
