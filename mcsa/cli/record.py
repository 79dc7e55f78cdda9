"""`mcsa record`: what a conference left, verified offline, months later."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509
from cryptography.x509.oid import NameOID

from mcsa.cli.showing import JsonOption, out, short, show_json, show_pairs, show_table
from mcsa.errors import Refused, Rejected
from mcsa.key_files import load_anchors
from mcsa.record.findings import Findings
from mcsa.record.verify import verify_record
from mcsa.trust import Trust

app = typer.Typer(help="Show and verify conference records.", no_args_is_help=True)

OF_ANCHORS = ("certificate", "name")  # why a record isn't believed that may be good, under other anchors

FileArgument = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A .record file.")]
AnchorsOption = Annotated[
    list[Path],
    typer.Option(
        envvar="MCSA_ANCHORS",
        exists=True,
        dir_okay=False,
        help="Certificates of an authority, PEM; once for each domain that took part.",
    ),
]


@app.command()
def verify(file: FileArgument, anchors: AnchorsOption, json: JsonOption = False) -> None:
    """Verify a record: exit code 0 only where it is whole, unchanged and countersigned."""
    findings = _verified(file, anchors)
    _show(findings, json=json)
    if not findings.countersigned:
        raise Refused("record", "open", "good as far as it goes, but the Authorizer has not countersigned it")
    if not json:
        out.print("\nverified: unchanged, countersigned, whole", style="green")
        out.print(f"from {_time(findings.began_at)} on: a CSM that restarted has begun another file then")


@app.command()
def show(file: FileArgument, anchors: AnchorsOption, json: JsonOption = False) -> None:
    """Show what a record proves, also where something is missing from it."""
    _show(_verified(file, anchors, strict=False), json=json)


def _verified(file: Path, anchors: list[Path], *, strict: bool = True) -> Findings:
    try:
        return verify_record(file.read_bytes(), _trust(anchors), strict=strict)
    except Rejected as rejected:
        sentence = f"the record is not to be believed: {rejected.detail or rejected.cause}"
        if rejected.cause in OF_ANCHORS:
            sentence += f"; or {' and '.join(map(str, anchors))} isn't what its domains were certified by"
        raise Refused("record", rejected.cause, sentence) from None


def _trust(paths: list[Path]) -> Trust:
    """A file speaks for the domain that its first anchor names, and for no other."""
    domains: dict[str, tuple[x509.Certificate, ...]] = {}
    for path in paths:
        anchors = load_anchors(path)
        domain = _domain(anchors[0])
        if domain in domains:
            sentence = f"{path} speaks for {domain}, and so does another: take the one that you know to be genuine"
            raise Refused("anchors", "one-domain", sentence)
        domains[domain] = anchors
    own, *_ = domains
    return Trust(own, domains.pop(own), domains)


def _domain(anchor: x509.Certificate) -> str:
    names = anchor.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    if not names:
        raise Refused("anchors", "domain", "the anchor names no domain (organisation)")
    return str(names[0].value)


def _show(findings: Findings, *, json: bool) -> None:
    if json:
        show_json(_plain(findings))
        return
    home = findings.authorizer
    rows = [
        ("conference", f"{findings.title}  ({findings.conference_id.hex()})"),
        ("Coordinator", short(findings.coordinator, home)),
        ("record of", short(findings.writer, home)),
        ("from, to", f"{_time(findings.began_at)} to {_time(findings.last_at)}"),
        ("entries", f"{findings.entries}, head {findings.head.hex()[:16]}"),
        ("ended by", findings.ended_by or "nothing: it is still open"),
        ("countersigned", _countersigned(findings)),
        ("thrown out", ", ".join(short(noted.user, home) for noted in findings.ejected)),
        ("cheated", ", ".join(f"{short(noted.user, home)}: {noted.sentence}" for noted in findings.cheaters)),
        ("missing", "; ".join(findings.missing)),
        ("irregular", "; ".join(f"entry {n.entry}, {short(n.user, home)}: {n.sentence}" for n in findings.irregular)),
    ]
    show_pairs(rows)
    out.print()
    people = [
        (
            short(one.user, home),
            len(one.epochs),
            findings.messages.get(one.user, 0),
            findings.sealed.get(one.user, 0),
            one.certificate_fingerprint.hex()[:16],
        )
        for one in findings.participants
    ]
    show_table(("participant", "keys signed", "messages", "of these sealed", "certificate"), people, "nobody signed")


def _countersigned(findings: Findings) -> str:
    if not findings.countersigned:
        return "no"
    return f"{_time(findings.countersigned_at)} by {short(findings.countersigned_by, findings.authorizer)}"


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
