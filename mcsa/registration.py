"""The security association with the Authorizer: one round trip, what both sides do alike (design, section 5).

The member sends a fresh HPKE public key, signed by its host (the envelope), and a statement signed by the *user* over
host, key, group, Authorizer, nonce and expiry: a host can't claim a user, a user's certificate alone is worth nothing.
The answer is the group's security association, sealed to that key and bound to the hash of the request.

A host that is to send only, without being a member, registers in the same way; what it gets is a `SendingAssociation`.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from mcsa.encoding import encode_parts
from mcsa.envelope import CLOCK_SKEW, MAX_LIFETIME
from mcsa.errors import Refused, Rejected
from mcsa.identity import Credentials, Identity
from mcsa.sealing import SealingKey, seal_to
from mcsa.source_authentication import SourcePublicKey, mode_named
from mcsa.trust import Trust
from mcsa.v1.authorizer_pb2 import (
    GroupSecurityAssociation,
    RegisterRequest,
    RegisterSenderRequest,
    SendingAssociation,
    UserStatement,
)
from mcsa.v1.types_pb2 import GroupPolicy, SignedStatement

LABEL = "mcsa registration v1"
SENDING_LABEL = "mcsa sending association v1"
USER_STATEMENT_LABEL = "mcsa user statement v1"


def seal_association(
    request: RegisterRequest, request_hash: bytes, shared: bytes, own: GroupSecurityAssociation
) -> bytes:
    """The association, for the host that made this very request; `Rejected("suite")` for a malformed key.

    It is `shared`, an association serialised without what differs between newcomers, with `own` merged into it: the
    roster may be long, and is serialised once for all that come together.
    """
    info = encode_parts(LABEL, request_hash)
    return seal_to(request.hpke_suite, request.hpke_public_key, shared + own.SerializeToString(), info)


def open_association(key: SealingKey, request_hash: bytes, sealed: bytes) -> GroupSecurityAssociation:
    """The other way; `Rejected("sealing")` where it was sealed to another key or for another request."""
    plaintext = key.open(sealed, encode_parts(LABEL, request_hash))
    try:
        return GroupSecurityAssociation.FromString(plaintext)
    except DecodeError:
        raise Rejected("sealing", "malformed") from None


def seal_sending(suite: str, public_key: bytes, request_hash: bytes, association: SendingAssociation) -> bytes:
    """What a send-only host gets, for the one that made this very request; `Rejected("suite")` for a malformed key."""
    return seal_to(suite, public_key, association.SerializeToString(), encode_parts(SENDING_LABEL, request_hash))


def open_sending(key: SealingKey, request_hash: bytes, sealed: bytes) -> SendingAssociation:
    """The other way; `Rejected("sealing")` where it was sealed to another key or for another request."""
    plaintext = key.open(sealed, encode_parts(SENDING_LABEL, request_hash))
    try:
        return SendingAssociation.FromString(plaintext)
    except DecodeError:
        raise Rejected("sealing", "malformed") from None


def sign_user_statement(user: Credentials, statement: bytes) -> SignedStatement:
    """The user's word for its host; the bytes come from the MSM (`PrepareJoinResponse`)."""
    return user.sign_statement(USER_STATEMENT_LABEL, statement)


def verify_user_statement(
    request: RegisterRequest | RegisterSenderRequest, host: Identity, authorizer: str, trust: Trust, now: float
) -> Identity:
    """The user that speaks in a registration, of this domain or of a peer; `authorizer` is the one that the conference
    is at home at, which the user knows of.

    Raises `Refused("user-statement")`, with what is wrong in the rule, where the statement is not the user's, not in
    time, or about something else than this request: another host, key, group or Authorizer, or membership where it is
    about sending only, or the other way round.
    """
    signed = request.user_statement
    try:
        user = trust.open_statement(signed, USER_STATEMENT_LABEL, now, peers=True)
        statement = UserStatement.FromString(signed.statement)
    except Rejected as rejected:
        raise _refused(rejected.cause, f"the user's statement was not accepted: {rejected}") from None
    except DecodeError:
        raise _refused("malformed", "the user's statement is malformed") from None
    for field, said, needed in (
        ("host", statement.host, str(host.id)),
        ("hpke-key", statement.hpke_public_key, request.hpke_public_key),
        ("group", statement.group_id, request.group_id),
        ("authorizer", statement.authorizer, authorizer),
        ("purpose", statement.send_only, isinstance(request, RegisterSenderRequest)),
    ):
        if said != needed:
            raise _refused(field, f"the statement of {user.id} is for another {field}: a host can't reuse it")
    expires_at = statement.expires_ms / 1000
    if now > expires_at + CLOCK_SKEW:
        raise _refused("expired", f"the statement of {user.id} has expired; is the clock right?")
    if expires_at > now + MAX_LIFETIME + CLOCK_SKEW:
        raise _refused("expiry", f"the statement of {user.id} holds for longer than {MAX_LIFETIME:g} s")
    return user


def _refused(rule: str, sentence: str) -> Refused:
    return Refused("user-statement", f"user-statement.{rule}", sentence)


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
