"""Announcements of ours: what goes in comes out, what was signed is checked, the rest is rejected."""

from __future__ import annotations

import pytest

from mcsa.conference_id import group_id_of
from mcsa.errors import Refused, Rejected
from mcsa.policy import complete_policy
from mcsa.sap.announcement import ANNOUNCEMENT_LABEL, check_description, parse_announcement, split_signature
from mcsa.sap.sdp import LARGEST
from mcsa.v1.types_pb2 import POLICY_CLASS_CLOSED, ConferenceDescription, GroupPolicy, RepeatTimes
from tests.sap.parts import CONFERENCE, described, foreign
from tests.world import NOW, World


def test_another_host_learns_all_it_needs_to_join(world: World):
    policy = GroupPolicy(suite="aes-128-gcm", hpke="x-wing", replay_window=4096, keep_key_on_join=True)
    policy.multicast_updates = False
    session = parse_announcement(described(world, policy=policy, sources=("198.51.100.2",)))
    assert session.title == "Budget meeting"
    assert session.conference_id == CONFERENCE
    assert session.authorizer == str(world.authorizer.id)
    assert session.coordinator == str(world.user("alice").id)
    assert list(session.ckgds) == ["bd", "central"]
    assert session.policy_class == POLICY_CLASS_CLOSED
    assert session.start_s == int(NOW) and session.end_s == 0
    assert [group.name for group in session.groups] == ["control", "audio1"]
    for index, group in enumerate(session.groups):
        assert group.group_id == group_id_of(CONFERENCE, index)
        assert (group.address, group.port, group.ttl) == (f"239.255.77.{index + 1}", 7000 + 2 * index, 8)
        assert group.policy == complete_policy(policy)
        assert list(group.sources) == ["198.51.100.2"]


def test_groups_of_ipv6_keep_hop_limit_and_sources(world: World):
    """A c= line has no place for the hop limit (RFC 8866, section 5.7)."""
    sdp = described(world, sources=("fd00::5", "fd00::1"), network="ff35::8000:")
    assert b"c=IN IP6 ff35::8000:1\r\n" in sdp
    assert b"a=source-filter: incl IN IP6 ff35::8000:1 fd00::5 fd00::1\r\n" in sdp  # RFC 4570, section 3
    for index, group in enumerate(parse_announcement(sdp).groups):
        assert (group.address, group.ttl) == (f"ff35::8000:{index + 1}", 8)
        assert list(group.sources) == ["fd00::5", "fd00::1"]
        assert group.policy == complete_policy(GroupPolicy())


@pytest.mark.parametrize("hops", [b"hops=0", b"hops=256", b"hops=-1", b"hops="])
def test_a_hop_limit_that_is_none(world: World, hops: bytes):
    sdp = described(world, network="ff15::8000:").replace(b"hops=8", hops)
    with pytest.raises(Rejected):
        parse_announcement(sdp)


@pytest.mark.parametrize(
    ("source_filter", "sources"),
    [
        (b" incl IN IP4 232.9.9.9 198.51.100.7", ["198.51.100.7"]),
        (b" incl IN IP4 * 198.51.100.7 198.51.100.8", ["198.51.100.7", "198.51.100.8"]),
        (b" incl IN IP6 * FD00:0::7", ["fd00::7"]),
        (b" incl IN IP4 232.9.9.8 198.51.100.7", []),  # another group's
        (b" excl IN IP4 232.9.9.9 198.51.100.7", []),
        (b" incl IN * 232.9.9.9 camera.example.org", []),
        (b" incl", []),
        (b"", []),
    ],
)
def test_a_foreign_source_filter(source_filter: bytes, sources: list[str]):
    sdp = foreign().replace(b"239.255.7.9", b"232.9.9.9") + b"a=source-filter:" + source_filter + b"\r\n"
    assert list(parse_announcement(sdp).groups[0].sources) == sources


def test_it_stays_below_what_a_sap_packet_should_have(world: World):
    assert len(described(world, groups=3)) <= LARGEST
    with pytest.raises(Refused) as caught:
        described(world, groups=12)
    assert caught.value.rule == "size" and "fewer groups" in caught.value.sentence


def test_a_title_is_one_line(world: World):
    with pytest.raises(Refused):
        described(world, title="two\r\na=mcsa-authorizer:another")


def test_the_coordinators_signature_covers_every_byte_before_it(world: World):
    sdp = described(world)
    signed = split_signature(sdp)
    assert signed is not None and sdp.startswith(signed.text)
    identity = world.user("alice").identity
    assert signed.fingerprint == identity.fingerprint
    identity.check_signature(signed.signature, ANNOUNCEMENT_LABEL, signed.text)
    for place in range(0, len(signed.text), 7):
        changed = bytearray(signed.text)
        changed[place] ^= 1
        with pytest.raises(Rejected):
            identity.check_signature(signed.signature, ANNOUNCEMENT_LABEL, bytes(changed))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"a=mcsa-sig:",
        b"a=mcsa-sig:AAAA BBBB",
        b"a=mcsa-sig:!!! ???",
        b"a=mcsa-sig:" + b"A" * 44,
        b"a=x mcsa-sig:" + b"A" * 43 + b"= " + b"A" * 86 + b"==",
    ],
)
def test_what_is_no_signature_is_none(line: bytes):
    assert split_signature(foreign() + line + b"\r\n") is None


def test_what_others_announce_is_understood_as_far_as_it_goes():
    session = parse_announcement(foreign("a film"))
    assert (session.title, session.conference_id, session.authorizer) == ("a film", b"", "")
    assert [(group.address, group.port) for group in session.groups] == [("239.255.7.9", 5004)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"a=mcsa:1 ", b"a=mcsa:2 "),
        (CONFERENCE.hex().encode(), b"00"),
        (CONFERENCE.hex().encode(), b"zz" * 16),
        (b"a=mcsa-group:control", b"a=mcsa-group:control suite=rot13"),
        (b"a=mcsa-group:control", b"a=mcsa-group:control volume=11"),
        (b"a=mcsa-group:control", b"a=mcsa-group:control replay_window=many"),
    ],
)
def test_one_of_ours_that_is_malformed_is_rejected(world: World, old: bytes, new: bytes):
    with pytest.raises(Rejected) as caught:
        parse_announcement(described(world).replace(old, new))
    assert caught.value.cause == "announcement"


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        (b"m=audio ", b"m= ", ""),
        (b"IP4 239.255.7.9/5\r\n", b"IP4 239.255.7.9/5\r\na=mcsa-group: \r\n", "audio"),
        (b"IP4 239.255.7.9/5\r\n", b"IP4 239.255.7.9/5\r\na=mcsa-group:\t\r\n", "audio"),
    ],
)
def test_a_group_without_a_name_is_called_what_it_is(old: bytes, new: bytes, name: str):
    (group,) = parse_announcement(foreign().replace(old, new)).groups
    assert (group.name, group.port) == (name, 5004)


# ---- what is signed is checked first


def checked(**changes: object) -> ConferenceDescription:
    description = ConferenceDescription(title="a talk", ckgds=["bd"], authorizer="spiffe://a/authorizer/main")
    description.groups.add(name="audio", media="audio", format="96", sources=["198.51.100.2"])
    for field, value in changes.items():
        name, _, of_group = field.partition("__")
        setattr(description.groups[0] if of_group else description, of_group or name, value)
    return description


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("title", "two\r\nlines", "title"),
        ("title", "\x1b[2K", "title"),
        ("group__name", "audio\r\na=mcsa-class:open", "group-name"),
        ("group__name", "audio suite=aes-128-gcm", "group-name"),
        ("group__name", "", "group-name"),
        ("group__name", "x" * 65, "group-name"),
        ("group__name", "\u00fcber", "group-name"),
        ("group__media", "audio 5004", "group-media"),
        ("group__media", "", "group-media"),
        ("group__format", "96\n", "group-format"),
        ("group__format", "96  97", "group-format"),
        ("group__format", " 96", "group-format"),
        ("group__format", " ".join(["96"] * 9), "group-format"),
        ("authorizer", "spiffe://a/authorizer/main\r\nm=audio", "name"),
        ("coordinator", "alice bob", "name"),
        ("start_s", 1 << 33, "times"),
        ("end_s", 1 << 33, "times"),
    ],
)
def test_what_would_be_more_than_a_word_is_not_signed(field: str, value: object, rule: str):
    check_description(checked())
    with pytest.raises(Refused) as caught:
        check_description(checked(**{field: value}))
    assert (caught.value.code, caught.value.rule) == ("announcement", rule)


def test_sources_schemes_and_policies_are_words_too():
    for change, rule in (("sources", "group-sources"), ("ckgds", "ckgds"), ("gkm", "group-policy")):
        description = checked()
        match change:
            case "sources":
                description.groups[0].sources.append("198.51.100.2\r\na=x")
            case "ckgds":
                description.ckgds.append("bd central")
            case "gkm":
                description.groups[0].policy.gkm = "lkh lease_s=1"
        with pytest.raises(Refused) as caught:
            check_description(description)
        assert caught.value.rule == rule


def test_a_format_may_have_several_words():
    check_description(checked(group__format="0 8 96"))


@pytest.mark.parametrize(
    ("start", "end", "repeat"),
    [
        (200, 100, None),
        (0, 0, (7, 1, [])),
        (100, 0, (0, 1, [])),
        (100, 0, (7, 0, [])),
        (100, 0, (7, 1, [0] * 9)),
        (100, 0, (7, 1, [1 << 40])),
    ],
)
def test_times_that_nobody_could_keep_are_refused(start: int, end: int, repeat: tuple[int, int, list[int]] | None):
    description = checked(start_s=start, end_s=end)
    if repeat is not None:
        description.repeats.add(interval_s=repeat[0], duration_s=repeat[1], offsets_s=repeat[2])
    with pytest.raises(Refused) as caught:
        check_description(description)
    assert caught.value.rule == "times"


def test_start_stop_and_repetitions_are_announced_and_signed(world: World):
    start = int(NOW) + 3_600
    weekly = RepeatTimes(interval_s=604_800, duration_s=1_800, offsets_s=[0, 86_400])
    sdp = described(world, start=start, end=start + 10 * 604_800, repeats=[weekly])
    assert b"\r\nr=7d 30m 0 1d\r\n" in sdp
    session = parse_announcement(sdp, NOW)
    assert (session.start_s, session.end_s) == (start, start + 10 * 604_800)
    assert list(session.repeats) == [weekly]
    assert (session.next_start_s, session.next_end_s) == (start, start + 1_800)
    later = parse_announcement(sdp, NOW + 86_400)
    assert (later.next_start_s, later.next_end_s) == (start + 86_400, start + 86_400 + 1_800)


def test_bare_line_feeds_are_the_same_signed_text(world: World):
    sdp = described(world)
    assert split_signature(sdp.replace(b"\r\n", b"\n")) == split_signature(sdp)
