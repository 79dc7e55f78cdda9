"""Keys, certificates and revocation lists as PEM files.

A key file holds the private key (PKCS#8, encrypted where there is a passphrase) and its certificate chain, leaf first,
and only its owner may read it. Raises `Refused("key-file")`, whose sentence says what to do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from mcsa.authority import CertificationAuthority
from mcsa.errors import Refused, Rejected
from mcsa.identity import Credentials
from mcsa.shell.sealed_file import read_private_file, write_atomically

PUBLIC = 0o644


def save_credentials(path: Path, credentials: Credentials, passphrase: bytes | None = None) -> None:
    """Key and chain into one file of mode 0600."""
    chain = [x509.load_der_x509_certificate(der) for der in credentials.chain]
    _save(path, credentials.private_key, chain, passphrase)


def load_credentials(path: Path, passphrase: bytes | None = None) -> Credentials:
    """What `save_credentials`, or any tool that writes PKCS#8 and certificates, put there."""
    key, chain = _load(path, passphrase)
    try:
        return Credentials(key, [certificate.public_bytes(Encoding.DER) for certificate in chain])
    except Rejected as error:
        raise _refuse(path, f"names nobody of ours: {error}") from None


def save_authority(path: Path, authority: CertificationAuthority, passphrase: bytes | None = None) -> None:
    """A certification authority's key and anchor into one file of mode 0600."""
    _save(path, authority.key, [authority.certificate], passphrase)


def load_authority(path: Path, passphrase: bytes | None = None) -> CertificationAuthority:
    """What `save_authority` put there."""
    key, (anchor, *_) = _load(path, passphrase)
    names = anchor.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    if not names:
        raise _refuse(path, "is no certification authority of ours: its certificate names no domain")
    return CertificationAuthority(str(names[0].value), key, anchor)


def save_anchors(path: Path, anchors: Sequence[x509.Certificate]) -> None:
    """Certificates that are trusted, for everybody to read."""
    write_atomically(path, b"".join(anchor.public_bytes(Encoding.PEM) for anchor in anchors), PUBLIC)


def load_anchors(path: Path) -> tuple[x509.Certificate, ...]:
    """The certificates in a file, at least one."""
    return tuple(_certificates(path, _read(path)))


def save_revocation_list(path: Path, revocation_list: x509.CertificateRevocationList) -> None:
    """A CRL, for everybody to read."""
    write_atomically(path, revocation_list.public_bytes(Encoding.PEM), PUBLIC)


def load_revocation_list(path: Path) -> x509.CertificateRevocationList:
    """The CRL in a file, of which nothing is checked: `Trust.revoke` does that."""
    try:
        return x509.load_pem_x509_crl(_read(path))
    except ValueError:
        raise _refuse(path, "holds no revocation list in PEM form") from None


def _save(
    path: Path, key: ec.EllipticCurvePrivateKey, chain: Sequence[x509.Certificate], passphrase: bytes | None
) -> None:
    encryption: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    write_atomically(path, pem + b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain))


def _load(path: Path, passphrase: bytes | None) -> tuple[ec.EllipticCurvePrivateKey, list[x509.Certificate]]:
    if b"PRIVATE KEY-----" not in _read(
        path, "; give the path of a file that has key and certificate"
    ):  # before its mode is judged: it needn't be secret
        raise _refuse(path, "holds no private key in PEM form; take the file that has key and certificate")
    pem = read_private_file(path)
    try:
        key = load_pem_private_key(pem, passphrase)
    except TypeError:  # what PyCA raises for both
        way_out = "is encrypted; give its passphrase" if not passphrase else "is not encrypted; give no passphrase"
        raise _refuse(path, way_out) from None
    except ValueError:
        raise _refuse(path, "can't be read as a private key in PEM form, or the passphrase is wrong") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _refuse(path, "holds a key that is not P-256, the only kind used here")
    chain = _certificates(path, pem)
    if chain[0].public_key() != key.public_key():
        raise _refuse(path, "holds a key and the certificate of another; put the key's own certificate first")
    return key, chain


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise _refuse(path, "holds no certificate in PEM form") from None


def _read(path: Path, way_out: str = "") -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _refuse(path, f"can't be read: {os.strerror(error.errno or 0)}{way_out}") from None


def _refuse(path: Path, what: str) -> Refused:
    return Refused("key-file", str(path), f"{path} {what}.")
