"""What is ours in a session description: the announcement of a multicast session that will become a conference.

    a=mcsa:1 <conference id, hex>              a=mcsa-authorizer:<SPIFFE ID>      a=mcsa-coordinator:<SPIFFE ID>
    a=mcsa-class:open|closed                   a=mcsa-ckgds:<names, best first>
    a=mcsa-withdraw:<SHA-256 of the secret that deletes this, base64>
    m=... c=... a=mcsa-group:<name> [hops=<hop limit>, of IPv6] [<field>=<value> of the policy, where not the default]
    a=mcsa-sig:<fingerprint of the signer, base64> <signature, base64>       the last line, over all before it

The signature is inside the SDP since real listeners drop announcements with a SAP authentication header (design, D4).
The list of acceptable users is not here (design, D9).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mcsa.addresses import parse_address
from mcsa.conference_id import ID_SIZE, group_id_of
from mcsa.errors import Refused, Rejected
from mcsa.identity import SIGNATURE_SIZE
from mcsa.policy import DEFAULTS, complete_policy, parse_policy
from mcsa.sap.entry import OURS, WITHDRAWAL
from mcsa.sap.sdp import LARGEST, LARGEST_TTL, Attributes, Media, Sdp, canonical, format_sdp, parse_sdp
from mcsa.sap.times import Period, Repeat, next_occurrence
from mcsa.v1.msm_pb2 import Session
from mcsa.v1.types_pb2 import (
    POLICY_CLASS_CLOSED,
    POLICY_CLASS_OPEN,
    ConferenceDescription,
    GroupDescription,
    GroupPolicy,
    RepeatTimes,
)

ANNOUNCEMENT_LABEL = "mcsa announcement v1"
_SIGNATURE_LINE = b"a=mcsa-sig:"
_SIGNATURE_LINE_SIZE = len(_SIGNATURE_LINE) + 44 + 1 + 88 + 2  # base64 of 32 and of 64 bytes, CRLF
HOP_LIMIT = "hops"
LONGEST_WORD = 64  # characters
FORMATS_AT_ONCE = 8
REPEATS_AT_ONCE, OFFSETS = 4, 8
LATEST_TIME = (1 << 32) - 1  # seconds since 1970: what 32 bits and real listeners take
_LARGEST = (1 << 64) - 1
_WORD = re.compile(rf"[A-Za-z0-9._+/-]{{1,{LONGEST_WORD}}}", re.ASCII)
_NAME = re.compile(r"[!-~]{1,255}", re.ASCII)
_CLASSES = {"open": POLICY_CLASS_OPEN, "closed": POLICY_CLASS_CLOSED}
_PROTOCOLS = {"audio": "RTP/AVP", "video": "RTP/AVP"}


@dataclass(frozen=True, slots=True)
class SignedText:
    """An announcement taken apart."""

    text: bytes
    fingerprint: bytes
    signature: bytes


def check_description(description: ConferenceDescription) -> None:
    """Whether it can be announced, before anything is made for it: what is signed has to be one line each, and one word
    where a line has several. `Refused("announcement")`, the rule names the field."""
    if not description.title.isprintable():
        raise _refused("title", "the title must be one line of printable characters")
    for group in description.groups:
        _check_words("group-name", group.name, 1)
        _check_words("group-media", group.media, 1)
        _check_words("group-format", group.format or "0", FORMATS_AT_ONCE)
        _check_words("group-policy", group.policy.gkm or "lkh", 1)
        for source in group.sources:
            _check_source(source)
    for name in description.ckgds:
        _check_words("ckgds", name, 1)
    for name in (description.coordinator, description.authorizer):
        _check_words("name", name or "-", 1, _NAME)
    _check_times(description)


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

    `Refused("announcement")` where it doesn't fit, or is not what `check_description` lets pass.
    """
    whole = ConferenceDescription()
    whole.CopyFrom(description)
    del whole.groups[:]
    whole.groups.extend(groups)
    check_description(whole)
    session = int.from_bytes(conference_id[:8], "big") >> 1  # a decimal number, RFC 8866, section 5.2
    family = "IP6" if ":" in origin_address else "IP4"
    policy_class = "open" if description.policy_class == POLICY_CLASS_OPEN else "closed"
    sdp = Sdp(
        f"- {session} {version} IN {family} {origin_address}",
        description.title,
        [Period(description.start_s, description.end_s, tuple(_repeat(each) for each in description.repeats))],
        [
            ("type", "meeting"),
            (OURS, f"1 {conference_id.hex()}"),
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
        raise _refused("size", sentence)
    return text


def append_signature(unsigned: bytes, signature: bytes, fingerprint: bytes) -> bytes:
    """The whole announcement."""
    return unsigned + _SIGNATURE_LINE + _base64(fingerprint) + b" " + _base64(signature) + b"\r\n"


def split_signature(sdp: bytes) -> SignedText | None:
    """Text and signature; None where there is none, or none that could be one. Signed is the text with CRLF, also where
    it was announced with bare line feeds."""
    sdp = canonical(sdp)
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


def parse_announcement(sdp: bytes, now: float = 0.0) -> Session:
    """Whatever was announced; without a conference id where it is none of ours. When it takes place next, as it says
    itself, is as of `now`. Raises `Rejected` as `parse_sdp`, and "announcement" where one of ours is malformed."""
    found = parse_sdp(sdp)
    session = Session(title=found.title, start_s=found.start, end_s=found.end, version=min(found.version, _LARGEST))
    session.announcement.sdp = sdp
    session.repeats.extend(_repeat_times(repeat) for period in found.periods for repeat in period.repeats)
    occurrence = next_occurrence(found.periods, found.adjustments, now)
    if occurrence is not None:
        session.next_start_s, session.next_end_s = max(0, occurrence.start), max(0, occurrence.end)
    ours = found.attribute(OURS)
    conference_id = b"" if ours is None else _conference_id(ours)
    session.conference_id = conference_id
    session.authorizer = found.attribute("mcsa-authorizer") or ""
    session.coordinator = found.attribute("mcsa-coordinator") or ""
    session.ckgds.extend((found.attribute("mcsa-ckgds") or "").split())
    session.policy_class = _CLASSES.get(found.attribute("mcsa-class") or "", POLICY_CLASS_CLOSED)
    for index, media in enumerate(found.media):
        session.groups.append(_group(media, conference_id, index))
    return session


# ---- checks


def _refused(rule: str, sentence: str) -> Refused:
    return Refused("announcement", rule, sentence)


def _check_words(rule: str, text: str, most: int, word: re.Pattern[str] = _WORD) -> None:
    words = text.split(" ")
    if len(words) > most or not all(word.fullmatch(each) for each in words):
        what = "one word" if most == 1 else "words with one blank between them"
        sentence = f"{text[:60]!r} can't be announced as a {rule}: {what} of letters, digits and -._+/ ({LONGEST_WORD})"
        raise _refused(rule, sentence)


def _check_source(source: str) -> None:
    try:
        ipaddress.ip_address(source)
    except ValueError:
        raise _refused("group-sources", f"{source[:60]!r} is no address that a source could have") from None


def _check_times(description: ConferenceDescription) -> None:
    start, end = description.start_s, description.end_s
    if max(start, end) > LATEST_TIME or (end and end <= start):
        raise _refused("times", "a session ends after it starts, and both are times of this age, in seconds since 1970")
    if len(description.repeats) > REPEATS_AT_ONCE or (description.repeats and not start):
        raise _refused("times", f"what is repeated starts some time, and has at most {REPEATS_AT_ONCE} patterns")
    for repeat in description.repeats:
        times = [repeat.interval_s, repeat.duration_s, *repeat.offsets_s]
        if not repeat.interval_s or not repeat.duration_s or max(times) > LATEST_TIME or len(times) > 2 + OFFSETS:
            raise _refused("times", "what is repeated has an interval, a duration and at most 8 offsets, in seconds")


def _repeat(times: RepeatTimes) -> Repeat:
    return Repeat(times.interval_s, times.duration_s, tuple(times.offsets_s) or (0,))


def _repeat_times(repeat: Repeat) -> RepeatTimes:
    return RepeatTimes(interval_s=repeat.interval, duration_s=repeat.duration, offsets_s=repeat.offsets)


# ---- groups


def _media(group: GroupDescription) -> Media:
    is_ipv6 = ":" in group.address
    # A c= line of IPv6 has no room for it (RFC 8866, section 5.7).
    hop_limit = [f"{HOP_LIMIT}={group.ttl or 1}"] if is_ipv6 else []
    attributes: Attributes = [("mcsa-group", " ".join([group.name, *hop_limit, *_unusual(group.policy)]))]
    if group.sources:  # RFC 4570, section 3
        family = "IP6" if is_ipv6 else "IP4"
        attributes.append(("source-filter", f" incl IN {family} {group.address} {' '.join(group.sources)}"))
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
    group.sources.extend(_sources(media))
    if unusual and unusual[0].startswith(f"{HOP_LIMIT}="):
        group.ttl = _hop_limit(unusual.pop(0))
    if conference_id:
        group.group_id = group_id_of(conference_id, index)
        group.policy.CopyFrom(_policy(unusual))
    return group


def _sources(media: Media) -> list[str]:
    """Those that a filter lets in (RFC 4570): for this address, or for any; names instead of addresses are nobody's."""
    mode, _, _, destination, *sources = [*(media.attribute("source-filter") or "").split(), *[""] * 4]
    if mode != "incl" or destination not in (media.address, "*"):
        return []
    return [str(parse_address(source)) for source in sources if source and _is_address(source)]


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


def _hop_limit(text: str) -> int:
    number = text.partition("=")[2]
    if not number.isdecimal() or not 0 < int(number) <= LARGEST_TTL:
        raise Rejected("announcement", f"{text[:40]}")
    return int(number)


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
