"""A small certification authority for laboratories and tests (`mcsa ca`). In production, SPIRE or cert-manager."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mcsa.identity import Credentials, SpiffeId

ANCHOR_DAYS = 3650
LEAF_DAYS = 365
BACKDATED = timedelta(minutes=5)  # for hosts whose clock is a little behind


class CertificationAuthority:
    """Issues certificates for one domain. Trusted for who is who, and for nothing else."""

    def __init__(self, domain: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.domain = domain
        self.key = key
        self.certificate = certificate

    @classmethod
    def create(cls, domain: str, now: float) -> CertificationAuthority:
        """A new authority with a self-signed anchor."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, domain),
                x509.NameAttribute(NameOID.COMMON_NAME, f"{domain} certification authority"),
            ]
        )
        start = datetime.fromtimestamp(now, UTC)
        builder = _builder(name, name, key.public_key(), start, ANCHOR_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        builder = builder.add_extension(_key_usage(ca=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return cls(domain, key, builder.sign(key, hashes.SHA256()))

    def issue(self, kind: str, name: str, now: float, days: float = LEAF_DAYS) -> Credentials:
        """Key and certificate for `spiffe://<domain>/<kind>/<name>`, valid from five minutes ago."""
        spiffe = SpiffeId.parse(f"spiffe://{self.domain}/{kind}/{name}")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.domain),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, kind),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        start = datetime.fromtimestamp(now, UTC)
        uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(spiffe))])
        builder = _builder(subject, self.certificate.subject, key.public_key(), start, days)
        builder = builder.add_extension(uri, critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(ca=False), critical=True)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        anchor_key = self.key.public_key()
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(anchor_key), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return Credentials(key, [certificate.public_bytes(Encoding.DER)])

    def revoke(self, serial_numbers: Iterable[int], now: float) -> x509.CertificateRevocationList:
        """A revocation list with these serial numbers."""
        moment = datetime.fromtimestamp(now, UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(moment).next_update(moment + timedelta(days=30))
        for serial in serial_numbers:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(moment).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, days: float
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(start - BACKDATED).not_valid_after(start + timedelta(days=days))


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=not ca,  # users sign what they can't deny
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
