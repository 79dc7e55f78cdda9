"""The trust anchors of one domain: the path from a certificate chain to a name of that domain, and revocation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from mcsa.errors import Rejected
from mcsa.identity import Identity, name_among

MAX_CHAIN = 4  # certificates in a chain that we look at
MAX_CERTIFICATE = 4096  # bytes of one certificate
CACHE_SIZE = 10_000  # verified chains kept; a verified one saves a third of a registration
NO_CERTIFICATE = (ValueError, x509.InvalidVersion, x509.UnsupportedGeneralNameType, x509.DuplicateExtension)


class DomainAnchors:
    """Speaks for one domain and for no other, whatever its certificates say: path, validity, revocation, domain.

    What was verified once is kept until its certificate, or the newest revocation list, says otherwise.
    """

    def __init__(self, domain: str, anchors: Iterable[x509.Certificate]) -> None:
        self.domain = domain
        self._anchors = tuple(anchors)
        self._store = Store(list(self._anchors))
        self._revoked: dict[bytes, frozenset[int]] = {}  # issuer's name (DER) to serial numbers
        self._verified: dict[bytes, Identity] = {}

    @property
    def keys(self) -> set[bytes]:
        """The anchors' public keys (DER)."""
        form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        return {anchor.public_key().public_bytes(*form) for anchor in self._anchors}

    def revoke(self, revocation_list: x509.CertificateRevocationList) -> None:
        """Takes over a CRL that one of the anchors signed; `Rejected("revocation-list")` otherwise."""
        for anchor in self._anchors:
            key = anchor.public_key()
            if isinstance(key, ec.EllipticCurvePublicKey) and revocation_list.is_signature_valid(key):
                revoked = frozenset(entry.serial_number for entry in revocation_list)
                self._revoked[anchor.subject.public_bytes()] = revoked
                self._verified.clear()
                return
        raise Rejected("revocation-list", "signed by no anchor")

    def find(self, chain: Sequence[bytes], now: float) -> Identity:
        """The identity that a chain (DER, leaf first) proves at time `now` (seconds since 1970).

        Raises `Rejected`: "certificate" (malformed, wrong path, not valid now), "revoked", "name" (no SPIFFE ID of
        this domain).
        """
        check_size(chain)
        fingerprint = hashlib.sha256(b"".join(chain)).digest()
        identity = self._verified.get(fingerprint)
        moment = _moment(now)
        if identity is None:
            identity = self._verify(chain, moment)
            if len(self._verified) >= CACHE_SIZE:
                self._verified.clear()
            self._verified[fingerprint] = identity
        certificate = identity.certificate
        if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
            raise Rejected("certificate", "not valid now")
        return identity

    def _verify(self, chain: Sequence[bytes], moment: datetime) -> Identity:
        try:
            leaf, *intermediates = (x509.load_der_x509_certificate(der) for der in chain)
            verifier = PolicyBuilder().store(self._store).time(moment).build_client_verifier()
            verified = verifier.verify(leaf, intermediates)
        except VerificationError as error:
            raise Rejected("certificate", f"no anchor of {self.domain} proves the certificate: {error}") from None
        except NO_CERTIFICATE as error:
            raise Rejected("certificate", str(error)) from None
        for certificate in verified.chain:
            if self._is_revoked(certificate):
                raise Rejected("revoked", str(certificate.serial_number))
        key = leaf.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Rejected("certificate", "key type")
        name = name_among(verified.subjects or ())
        if name.domain != self.domain:
            raise Rejected("name", f"of another domain: {name}")
        return Identity(name, leaf, tuple(chain))

    def _is_revoked(self, certificate: x509.Certificate) -> bool:
        """Looks for the serial number first, since an issuer's name takes long to encode."""
        listing = [issuer for issuer, serials in self._revoked.items() if certificate.serial_number in serials]
        return bool(listing) and certificate.issuer.public_bytes() in listing


def check_size(chain: Sequence[bytes]) -> None:
    """Raises `Rejected("certificate")` for more than is worth looking at, and for nothing."""
    if not 1 <= len(chain) <= MAX_CHAIN or any(len(der) > MAX_CERTIFICATE for der in chain):
        raise Rejected("certificate", "size")


def _moment(seconds: float) -> datetime:
    """A time that somebody else may have written down."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        raise Rejected("certificate", f"no time: {seconds:g}") from None
