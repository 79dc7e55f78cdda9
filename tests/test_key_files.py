"""Keys in files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mcsa.authority import CertificationAuthority
from mcsa.errors import Refused
from mcsa.identity import Credentials
from mcsa.key_files import (
    load_anchors,
    load_authority,
    load_credentials,
    load_revocation_list,
    save_anchors,
    save_authority,
    save_credentials,
    save_revocation_list,
)
from mcsa.trust import Trust

NOW = 1_800_000_000.0
PASSPHRASE = b"correct horse"


@pytest.fixture(scope="module")
def authority() -> CertificationAuthority:
    return CertificationAuthority.create("lab.example", NOW)


@pytest.fixture(scope="module")
def credentials(authority: CertificationAuthority) -> Credentials:
    return authority.issue("user", "ada", NOW)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_what_was_saved_is_loaded(tmp_path: Path, credentials: Credentials, passphrase: bytes | None) -> None:
    path = tmp_path / "ada.pem"
    save_credentials(path, credentials, passphrase)
    loaded = load_credentials(path, passphrase)
    assert loaded.id == credentials.id
    assert loaded.chain == credentials.chain
    credentials.identity.check_signature(loaded.sign("label", b"part"), "label", b"part")
    assert path.stat().st_mode & 0o777 == 0o600
    assert (b"ENCRYPTED" in path.read_bytes()) == (passphrase is not None)


def test_openssl_reads_it(tmp_path: Path, credentials: Credentials) -> None:
    path = tmp_path / "ada.pem"
    save_credentials(path, credentials, PASSPHRASE)
    command = ["openssl", "pkey", "-in", str(path), "-passin", f"pass:{PASSPHRASE.decode()}", "-noout", "-text"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "prime256v1" in shown
    certificate = subprocess.run(["openssl", "x509", "-in", path, "-noout", "-text"], capture_output=True, check=True)
    assert b"spiffe://lab.example/user/ada" in certificate.stdout


def test_a_key_that_others_may_read_is_refused(tmp_path: Path, credentials: Credentials) -> None:
    path = tmp_path / "ada.pem"
    save_credentials(path, credentials)
    path.chmod(0o640)
    with pytest.raises(Refused, match=f"chmod 600 {path}") as refused:
        load_credentials(path)
    assert refused.value.code == "key-file"


def test_passphrases(tmp_path: Path, credentials: Credentials) -> None:
    locked, unlocked = tmp_path / "locked.pem", tmp_path / "unlocked.pem"
    save_credentials(locked, credentials, PASSPHRASE)
    save_credentials(unlocked, credentials)
    with pytest.raises(Refused, match="is encrypted; give its passphrase"):
        load_credentials(locked)
    with pytest.raises(Refused, match="the passphrase is wrong"):
        load_credentials(locked, b"wrong")
    with pytest.raises(Refused, match="is not encrypted; give no passphrase"):
        load_credentials(unlocked, PASSPHRASE)


def private(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_files_that_are_no_key_files(
    tmp_path: Path, credentials: Credentials, authority: CertificationAuthority
) -> None:
    certificate = credentials.certificate.public_bytes(Encoding.PEM)
    another = authority.issue("user", "bob", NOW)
    cases = [
        (b"", "holds no private key"),
        (certificate, "holds no private key"),
        (pem(credentials.private_key).replace(b"M", b"N"), "can't be read as a private key"),
        (pem(credentials.private_key), "holds no certificate"),
        (pem(another.private_key) + certificate, "the certificate of another"),
        (pem(ed25519.Ed25519PrivateKey.generate()) + certificate, "not P-256"),
        (pem(ec.generate_private_key(ec.SECP384R1())) + certificate, "not P-256"),
        (pem(authority.key) + authority.certificate.public_bytes(Encoding.PEM), "names nobody of ours"),
    ]
    for number, (content, said) in enumerate(cases):
        with pytest.raises(Refused, match=said):
            load_credentials(private(tmp_path / f"{number}.pem", content))


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file or directory; give the path of a file that has key"):
        load_credentials(tmp_path / "ada.pem")


def test_an_authority_is_kept(tmp_path: Path, authority: CertificationAuthority) -> None:
    path = tmp_path / "authority.pem"
    save_authority(path, authority, PASSPHRASE)
    loaded = load_authority(path, PASSPHRASE)
    assert loaded.domain == "lab.example"
    issued = loaded.issue("host", "a", NOW)
    assert Trust("lab.example", [authority.certificate]).verify_chain(issued.chain, NOW).id == issued.id
    assert path.stat().st_mode & 0o777 == 0o600


def test_anchors(tmp_path: Path, authority: CertificationAuthority) -> None:
    other = CertificationAuthority.create("other.example", NOW)
    path = tmp_path / "anchors.pem"
    save_anchors(path, [authority.certificate, other.certificate])
    assert load_anchors(path) == (authority.certificate, other.certificate)
    assert path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(Refused, match="holds no certificate"):
        load_anchors(private(tmp_path / "none", b"none"))
    with pytest.raises(Refused, match="can't be read: No such file"):
        load_anchors(tmp_path / "nowhere")


def test_a_revocation_list(tmp_path: Path, authority: CertificationAuthority, credentials: Credentials) -> None:
    path = tmp_path / "revoked.pem"
    save_revocation_list(path, authority.revoke([credentials.certificate.serial_number], NOW))
    loaded = load_revocation_list(path)
    assert [entry.serial_number for entry in loaded] == [credentials.certificate.serial_number]
    Trust("lab.example", [authority.certificate]).revoke(loaded)
    with pytest.raises(Refused, match="holds no revocation list"):
        load_revocation_list(private(tmp_path / "none", b"none"))
