"""What is ours in a session description: the announcement of a multicast session that will become a conference.

    a=mcsa:1 <conference id, hex>              a=mcsa-authorizer:<SPIFFE ID>      a=mcsa-coordinator:<SPIFFE ID>
    a=mcsa-class:open|closed                   a=mcsa-ckgds:<names, best first>
    a=mcsa-withdraw:<SHA-256 of the secret that deletes this, base64>
    m=... c=... a=mcsa-group:<name> [<field>=<value> of the policy, where it is not the default]
    a=mcsa-sig:<fingerprint of the signer, base64> <signature, base64>       the last line, over all before it

The signature is inside the SDP since real listeners drop announcements with a SAP authentication header (design, D4).
The list of acceptable users is not here (design, D9).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from mcsa.conference_id import ID_SIZE, group_id_of
from mcsa.errors import Refused, Rejected
from mcsa.identity import SIGNATURE_SIZE
from mcsa.policy import DEFAULTS, complete_policy, parse_policy
from mcsa.sap.cache import WITHDRAWAL
from mcsa.sap.sdp import LARGEST, Attributes, Media, Sdp, format_sdp, parse_sdp
from mcsa.v1.msm_pb2 import Session
from mcsa.v1.types_pb2 import (
    POLICY_CLASS_CLOSED,
    POLICY_CLASS_OPEN,
    ConferenceDescription,
    GroupDescription,
    GroupPolicy,
)

ANNOUNCEMENT_LABEL = "mcsa announcement v1"
_SIGNATURE_LINE = b"a=mcsa-sig:"
_SIGNATURE_LINE_SIZE = len(_SIGNATURE_LINE) + 44 + 1 + 88 + 2  # base64 of 32 and of 64 bytes, CRLF
_CLASSES = {"open": POLICY_CLASS_OPEN, "closed": POLICY_CLASS_CLOSED}
_PROTOCOLS = {"audio": "RTP/AVP", "video": "RTP/AVP"}


@dataclass(frozen=True, slots=True)
class SignedText:
    """An announcement taken apart."""

    text: bytes
    fingerprint: bytes
    signature: bytes


def describe(
    description: ConferenceDescription,
    conference_id: bytes,
    groups: Sequence[GroupDescription],
    *,
    origin_address: str,
    version: int,
    withdrawal: bytes,
) -> bytes:
    """The text for the Coordinator to sign. `version` only rises (RFC 8866, section 5.2); `withdrawal` is the SHA-256
    of the secret that deletes the announcement.

    `Refused("announcement")` where it doesn't fit, or the title is no single line.
    """
    if not description.title.isprintable():
        raise Refused("announcement", "title", "the title must be one line of printable characters")
    session = int.from_bytes(conference_id[:8], "big") >> 1  # a decimal number, RFC 8866, section 5.2
    family = "IP6" if ":" in origin_address else "IP4"
    policy_class = "open" if description.policy_class == POLICY_CLASS_OPEN else "closed"
    sdp = Sdp(
        f"- {session} {version} IN {family} {origin_address}",
        description.title,
        description.start_s,
        description.end_s,
        [
            ("type", "meeting"),
            ("mcsa", f"1 {conference_id.hex()}"),
            ("mcsa-authorizer", description.authorizer),
            ("mcsa-coordinator", description.coordinator),
            ("mcsa-class", policy_class),
            ("mcsa-ckgds", " ".join(description.ckgds)),
            (WITHDRAWAL, _base64(withdrawal).decode()),
        ],
        [_media(group) for group in groups],
    )
    text = format_sdp(sdp)
    room = LARGEST - _SIGNATURE_LINE_SIZE
    if len(text) > room:
        sentence = f"the announcement is {len(text) - room} bytes too long: shorten the title, or take fewer groups"
        raise Refused("announcement", "size", sentence)
    return text


def append_signature(unsigned: bytes, signature: bytes, fingerprint: bytes) -> bytes:
    """The whole announcement."""
    return unsigned + _SIGNATURE_LINE + _base64(fingerprint) + b" " + _base64(signature) + b"\r\n"


def split_signature(sdp: bytes) -> SignedText | None:
    """Text and signature; None where there is none, or none that could be one."""
    start = sdp.rfind(_SIGNATURE_LINE)
    if start < 0 or (start and sdp[start - 1 : start] != b"\n"):
        return None
    try:
        fingerprint, signature = (
            base64.b64decode(part, validate=True) for part in sdp[start + len(_SIGNATURE_LINE) :].strip().split(b" ")
        )
    except (ValueError, binascii.Error):
        return None
    if len(signature) != SIGNATURE_SIZE or len(fingerprint) != 32:
        return None
    return SignedText(sdp[:start], fingerprint, signature)


def parse_announcement(sdp: bytes) -> Session:
    """Whatever was announced; without a conference id where it is none of ours. Raises `Rejected` as `parse_sdp`, and
    "announcement" where one of ours is malformed."""
    found = parse_sdp(sdp)
    session = Session(title=found.title, start_s=found.start, end_s=found.end)
    session.announcement.sdp = sdp
    ours = found.attribute("mcsa")
    conference_id = b"" if ours is None else _conference_id(ours)
    session.conference_id = conference_id
    session.authorizer = found.attribute("mcsa-authorizer") or ""
    session.coordinator = found.attribute("mcsa-coordinator") or ""
    session.ckgds.extend((found.attribute("mcsa-ckgds") or "").split())
    session.policy_class = _CLASSES.get(found.attribute("mcsa-class") or "", POLICY_CLASS_CLOSED)
    for index, media in enumerate(found.media):
        session.groups.append(_group(media, conference_id, index))
    return session


# ---- groups


def _media(group: GroupDescription) -> Media:
    attributes: Attributes = [("mcsa-group", " ".join([group.name, *_unusual(group.policy)]))]
    if group.sources:  # RFC 4570
        attributes.append(("source-filter", f" incl IN IP4 {group.address} {' '.join(group.sources)}"))
    protocol = _PROTOCOLS.get(group.media, "udp")
    return Media(group.media, group.port, protocol, group.format or "0", group.address, group.ttl or 1, attributes)


def _unusual(policy: GroupPolicy) -> list[str]:
    return [
        f"{field.name}={value}"
        for field, value in complete_policy(policy).ListFields()
        if value != getattr(DEFAULTS, field.name)
    ]


def _group(media: Media, conference_id: bytes, index: int) -> GroupDescription:
    name, *unusual = (media.attribute("mcsa-group") or "").split() or [media.kind]
    group = GroupDescription(
        name=name, media=media.kind, format=media.formats, address=media.address, port=media.port, ttl=media.ttl
    )
    source_filter = (media.attribute("source-filter") or "").split()
    if source_filter[:1] == ["incl"]:
        group.sources.extend(source_filter[4:])
    if conference_id:
        group.group_id = group_id_of(conference_id, index)
        group.policy.CopyFrom(_policy(unusual))
    return group


def _policy(unusual: Sequence[str]) -> GroupPolicy:
    try:
        return complete_policy(parse_policy(unusual))
    except Refused as error:
        raise Rejected("announcement", f"policy: {error}") from None


def _conference_id(value: str) -> bytes:
    version, _, text = value.partition(" ")
    try:
        conference_id = bytes.fromhex(text)
    except ValueError:
        conference_id = b""
    if version != "1" or len(conference_id) != ID_SIZE:
        raise Rejected("announcement", f"a=mcsa:{value[:60]}")
    return conference_id


def _base64(raw: bytes) -> bytes:
    return base64.b64encode(raw)
