"""The cryptography of a registration as bare calls: what no Authorizer with these primitives could leave out.

Two signatures and, unless known, two chains verified; X25519 twice, once for the group key, once within HPKE; one
answer signed. The batch's own signature and the keys' derivation are small beside these, and left out.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.verification import PolicyBuilder, Store

from bench.domain import Domain
from mcsa.identity import Credentials
from mcsa.sealing import SUITES

ASSOCIATION_SIZE = 3_000  # bytes: of a group of 20, as in the middle of the measurement
REQUEST_SIZE = 2_500  # bytes that are signed: two certificates, keys, names
_ECDSA = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class _Signer:
    chain: bytes
    key: ec.EllipticCurvePublicKey
    signature: bytes


class Floor:
    """As many signers as there are in the measurement, since a key that was used just before is faster."""

    def __init__(self, domain: Domain) -> None:
        self._store = Store([domain.authority.certificate])
        self._at = datetime.fromtimestamp(domain.now, UTC)
        self._request, self._association = os.urandom(REQUEST_SIZE), os.urandom(ASSOCIATION_SIZE)
        self._seats = [(self._signer(seat.host), self._signer(seat.user)) for seat in domain.seats]
        self._member = X25519PrivateKey.generate().public_key()
        self._private = domain.authorizer.private_key

    def _signer(self, who: Credentials) -> _Signer:
        key = who.certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return _Signer(who.chain[0], key, who.private_key.sign(self._request, _ECDSA))

    def seconds(self, *, with_chains: bool) -> float:
        """Processor time of one registration's, each seat once."""
        started_at = time.process_time()
        for seat in self._seats:
            for signer in seat:
                if with_chains:
                    leaf = x509.load_der_x509_certificate(signer.chain)
                    PolicyBuilder().store(self._store).time(self._at).build_client_verifier().verify(leaf, [])
                signer.key.verify(signer.signature, self._request, _ECDSA)
            X25519PrivateKey.generate().exchange(self._member)
            SUITES["x25519"].encrypt(self._association, self._member, info=self._request[:32])
            self._private.sign(self._association, _ECDSA)
        return (time.process_time() - started_at) / len(self._seats)
