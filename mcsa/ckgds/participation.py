"""What a participant signs at the end of a run: confirmation of the key and non-repudiation of its presence in one.

run hash          SHA-256 of the Coordinator's serialised ControlMessage with the RunStart: roster, nonces, scheme
transcript hash   digest over the SHA-256 of each message of the run, by round, then by place in the roster
confirmation      HMAC-SHA-256 under a key derived beside the conference key: the same for all (Katz & Shin 2005)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cryptography import x509
from google.protobuf.message import DecodeError

from mcsa.control.fragments import DATAGRAM_MAX
from mcsa.encoding import digest
from mcsa.errors import Rejected
from mcsa.identity import Credentials, Identity, name_in
from mcsa.v1.conference_pb2 import Participant, Participation
from mcsa.v1.types_pb2 import SignedStatement

PARTICIPATION_LABEL = "mcsa participation v1"
TRANSCRIPT_LABEL = "mcsa transcript v1"
STATEMENT_MAX = 512  # bytes of a Participation; one has 200 and the user's name


def run_hash_of(start: bytes) -> bytes:
    """Of the serialised ControlMessage that carries the RunStart; 32 bytes."""
    return hashlib.sha256(start).digest()


def transcript_hash_of(messages: Mapping[tuple[int, int], bytes]) -> bytes:
    """Of the serialised ControlMessages of a run's rounds, by (round, place in the roster from 0); 32 bytes."""
    parts: list[bytes | str | int] = []
    for (round_number, index), raw in sorted(messages.items()):
        parts += [round_number, index, hashlib.sha256(raw).digest()]
    return digest(TRANSCRIPT_LABEL, *parts)


def sign_participation(user: Credentials, participation: Participation) -> SignedStatement:
    """The statement, with the user's chain beside it."""
    participation.user = str(user.id)
    return user.sign_statement(PARTICIPATION_LABEL, participation.SerializeToString(deterministic=True))


def verify_participation(
    signed: SignedStatement, participant: Participant, conference_id: bytes, key_epoch: int, run_hash: bytes
) -> Participation:
    """What `participant` of a roster signed about this run.

    Whether its certificate is to be believed was asked when it entered the roster: here it is found by its
    fingerprint. Raises `Rejected`: "certificate", "signature", "malformed", "wrong-run".
    """
    raw = signed.certificate_chain[0] if signed.certificate_chain else b""
    if hashlib.sha256(raw).digest() != participant.certificate_fingerprint:
        raise Rejected("certificate", "not the one in the roster")
    try:
        leaf = x509.load_der_x509_certificate(raw)
        identity = Identity(name_in(leaf), leaf, (raw,))
    except (ValueError, Rejected, x509.InvalidVersion, x509.UnsupportedGeneralNameType):
        raise Rejected("certificate", "malformed") from None
    if str(identity.id) != participant.user:
        raise Rejected("certificate", "not the one in the roster")
    if len(signed.statement) > STATEMENT_MAX or sum(map(len, signed.certificate_chain)) > DATAGRAM_MAX:
        raise Rejected("malformed", "longer than an honest one, which has to fit into one `activate` with the others")
    identity.check_signature(signed.signature, PARTICIPATION_LABEL, signed.statement)
    try:
        statement = Participation.FromString(signed.statement)
    except DecodeError:
        raise Rejected("malformed", "participation") from None
    said = (statement.user, statement.conference_id, statement.key_epoch, statement.run_hash)
    if said != (participant.user, conference_id, key_epoch, run_hash):
        raise Rejected("wrong-run", "participation")
    return statement
