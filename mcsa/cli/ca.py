"""`mcsa ca`: a small certification authority for laboratories and tests; elsewhere SPIRE or cert-manager issue."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from mcsa.authority import LEAF_DAYS, CertificationAuthority
from mcsa.cli.showing import JsonOption, out, show_json, show_table
from mcsa.errors import Refused
from mcsa.key_files import load_anchors, load_authority, save_anchors, save_authority, save_credentials

app = typer.Typer(help="A small certification authority, for laboratories and tests.", no_args_is_help=True)

FolderOption = Annotated[Path, typer.Option("--folder", help="Where its files are.")]
PassphraseOption = Annotated[
    str, typer.Option(envvar="MCSA_PASSPHRASE", help="Encrypt the key under it.", show_default=False)
]
AUTHORITY, ANCHORS = "authority.pem", "anchors.pem"
HERE = Path()


class Kind(StrEnum):
    """Whom a certificate names."""

    HOST = "host"
    USER = "user"
    AUTHORIZER = "authorizer"
    DIRECTORY = "directory"


@app.command()
def init(
    domain: Annotated[str, typer.Argument(help="The domain that it speaks for, as in spiffe://DOMAIN/user/alice.")],
    folder: FolderOption = HERE,
    passphrase: PassphraseOption = "",
) -> None:
    """Make an authority: its key (0600) and the anchors that everybody gets."""
    path = folder / AUTHORITY
    if path.exists():
        raise Refused(
            "exists", str(path), f"{path} is there already; another authority would make all certificates void"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = CertificationAuthority.create(domain, time.time())
    save_authority(path, authority, passphrase.encode() or None)
    save_anchors(folder / ANCHORS, [authority.certificate])
    out.print(
        f"{path}      its key: keep it secret\n{folder / ANCHORS}        for all services and hosts", markup=False
    )


@app.command()
def issue(
    kind: Annotated[Kind, typer.Argument(help="Whom the certificate names.")],
    name: Annotated[str, typer.Argument(help="The name, as in spiffe://DOMAIN/KIND/NAME.")],
    folder: FolderOption = HERE,
    days: Annotated[float, typer.Option(min=0.01, help="How long it is valid.")] = LEAF_DAYS,
    passphrase: PassphraseOption = "",
    authority_passphrase: Annotated[str, typer.Option(envvar="MCSA_CA_PASSPHRASE", show_default=False)] = "",
) -> None:
    """Issue a key and certificate: one file, 0600."""
    authority = load_authority(folder / AUTHORITY, authority_passphrase.encode() or None)
    path = folder / f"{kind.value}-{name}.pem"
    if path.exists():
        raise Refused("exists", str(path), f"{path} is there already; remove it first if it is to be replaced")
    credentials = authority.issue(kind.value, name, time.time(), days)
    save_credentials(path, credentials, passphrase.encode() or None)
    out.print(f"{path}  {credentials.id}", markup=False)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A PEM file with certificates.")],
    json: JsonOption = False,
) -> None:
    """Show the certificates in a file."""
    found = [_told(certificate) for certificate in load_anchors(file)]
    if json:
        show_json(found)
    else:
        show_table(
            [name.replace("_", " ") for name in found[0]], [list(row.values()) for row in found], "no certificate"
        )


def _told(certificate: x509.Certificate) -> dict[str, str | int]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    return {
        "name": ", ".join(uris) or "(an authority)",
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "valid_until": f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M}",
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex()[:16],
        "bytes": len(certificate.public_bytes(Encoding.DER)),
    }
