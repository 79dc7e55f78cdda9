"""Descriptions as we and others announce them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mcsa.policy import complete_policy
from mcsa.sap.announcement import ANNOUNCEMENT_LABEL, append_signature, describe
from mcsa.v1.types_pb2 import POLICY_CLASS_CLOSED, ConferenceDescription, GroupDescription, GroupPolicy, RepeatTimes
from tests.world import NOW, World

CONFERENCE = bytes(range(16))
SECRET = b"s" * 16


def described(
    world: World,
    *,
    title: str = "Budget meeting",
    version: int = 1,
    groups: int = 2,
    policy: GroupPolicy | None = None,
    sources: tuple[str, ...] = (),
    network: str = "239.255.77.",
    start: int = int(NOW),
    end: int = 0,
    repeats: Sequence[RepeatTimes] = (),
    secret: bytes = SECRET,
) -> bytes:
    """A signed announcement."""
    description = ConferenceDescription(
        title=title,
        coordinator=str(world.user("alice").id),
        policy_class=POLICY_CLASS_CLOSED,
        ckgds=["bd", "central"],
        start_s=start,
        end_s=end,
        repeats=repeats,
        authorizer=str(world.authorizer.id),
    )
    described_groups = [
        GroupDescription(
            name="control" if number == 0 else f"audio{number}",
            media="application" if number == 0 else "audio",
            format="mcsa" if number == 0 else "96",
            address=f"{network}{number + 1}",
            port=7000 + 2 * number,
            ttl=8,
            sources=sources,
            policy=complete_policy(policy or GroupPolicy()),
        )
        for number in range(groups)
    ]
    text = describe(
        description,
        CONFERENCE,
        described_groups,
        origin_address="198.51.100.2",
        version=version,
        withdrawal=hashlib.sha256(secret).digest(),
    )
    alice = world.user("alice")
    return append_signature(text, alice.sign(ANNOUNCEMENT_LABEL, text), alice.identity.fingerprint)


def foreign(title: str = "a film", version: int = 1, session: int = 1) -> bytes:
    """As VLC or ffmpeg announce."""
    return (
        f"v=0\r\no=- {session} {version} IN IP4 192.0.2.9\r\ns={title}\r\nt=0 0\r\n"
        "m=audio 5004 RTP/AVP 0\r\nc=IN IP4 239.255.7.9/5\r\n"
    ).encode()
