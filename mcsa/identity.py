"""Who somebody is: a name in an X.509 certificate, and the private key that proves it.

Every host, user, Authorizer and directory has a subject DN, as the paper asks (section 3.1), and one URI SAN that
says the kind: `spiffe://<domain>/host/<name>`, `/user/<name>`, `/authorizer/<name>`, `/directory/<name>`.
Keys are P-256: PyCA's path verifier refuses Ed25519 certificates, and smart cards know P-256.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from mcsa.encoding import Part, encode_parts
from mcsa.errors import Rejected
from mcsa.v1.types_pb2 import SignedStatement

KINDS = ("host", "user", "authorizer", "directory")
SIGNATURE_SIZE = 64  # raw r || s of P-256
_ECDSA = ec.ECDSA(hashes.SHA256())
_LABEL = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """`spiffe://<domain>/<kind>/<name>`. Names are lower-case labels of at most 63 characters: they become
    subject tokens on the bus (`token`), where a dot, a star or a blank would mean something else."""

    domain: str
    kind: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The name in `text`; `Rejected("name")` where it is none of ours."""
        scheme, _, rest = text.partition("://")
        domain, _, path = rest.partition("/")
        kind, _, name = path.partition("/")
        if scheme != "spiffe" or kind not in KINDS or not _LABEL.fullmatch(domain) or not _LABEL.fullmatch(name):
            raise Rejected("name", text[:80])
        return cls(domain, kind, name)

    @property
    def token(self) -> str:
        """The name as one token of a bus subject."""
        return self.name.replace(".", "_")

    def __str__(self) -> str:
        return f"spiffe://{self.domain}/{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody whose chain was verified: the only way to one is `mcsa.trust.Trust.verify_chain`."""

    id: SpiffeId
    certificate: x509.Certificate
    chain: tuple[bytes, ...]

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the leaf certificate, 32 bytes."""
        return self.certificate.fingerprint(hashes.SHA256())

    def check_signature(self, signature: bytes, label: str, *parts: Part) -> None:
        """Raises `Rejected("signature")` unless this identity signed these parts under this label."""
        if len(signature) != SIGNATURE_SIZE:
            raise Rejected("signature", "length")
        der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        key = self.certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):  # Trust lets no other in
            raise Rejected("signature", "key type")
        try:
            key.verify(der, encode_parts(label, *parts), _ECDSA)
        except InvalidSignature:
            raise Rejected("signature", label) from None


class Credentials:
    """An identity of our own: private key and chain."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, chain: Sequence[bytes]) -> None:
        self._key = key
        self.chain = tuple(chain)
        self.certificate = x509.load_der_x509_certificate(self.chain[0])
        self.id = name_in(self.certificate)

    @property
    def identity(self) -> Identity:
        """Oneself as the others see one; needs no verification."""
        return Identity(self.id, self.certificate, self.chain)

    def sign(self, label: str, *parts: Part) -> bytes:
        """Raw r || s, 64 bytes, over the parts under a label that says what is being signed."""
        r, s = decode_dss_signature(self._key.sign(encode_parts(label, *parts), _ECDSA))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def sign_statement(self, label: str, statement: bytes) -> SignedStatement:
        """A statement that stands for itself, with the chain beside it."""
        return SignedStatement(statement=statement, certificate_chain=self.chain, signature=self.sign(label, statement))

    @property
    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """For `mcsa.key_files` and TLS."""
        return self._key

    def __repr__(self) -> str:
        return f"<Credentials {self.id}>"


def is_domain(text: str) -> bool:
    """Whether a SPIFFE ID can be of this domain."""
    return bool(_LABEL.fullmatch(text))


def name_in(certificate: x509.Certificate) -> SpiffeId:
    """The one SPIFFE ID in a certificate; `Rejected("name")` where there is none, or more than one URI."""
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise Rejected("name", "no subject alternative name") from None
    except ValueError:
        raise Rejected("certificate", "extensions") from None
    return name_among(san)


def name_among(names: Iterable[x509.GeneralName]) -> SpiffeId:
    """The same, where a certificate's names have been read already."""
    uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    if len(uris) != 1:
        raise Rejected("name", "not exactly one URI")
    return SpiffeId.parse(uris[0])
