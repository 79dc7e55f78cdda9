"""What a group's Authorizer answers to who was let in: to a member the group's security association, to a host that
only sends the key of its own packets. Each is sealed to the key of the very request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mcsa.distribution import sign_right
from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey
from mcsa.registration import seal_association, seal_sending
from mcsa.v1.authorizer_pb2 import DistributionRight, GroupSecurityAssociation, SendingAssociation
from mcsa.v1.types_pb2 import RosterEntry
from services.authorizer.batch import Joiner, SendOnlyJoiner
from services.authorizer.setting import Setting


@dataclass(frozen=True, slots=True)
class Epoch:
    """As an answer tells it; times are seconds since 1970."""

    number: int
    key: GroupKey
    activates_at: float  # when members switch to it


@dataclass(frozen=True, slots=True)
class Associations:
    """Of one group."""

    setting: Setting

    def shared(
        self, update_number: int, roster: Iterable[RosterEntry], epoch: int, next_sender_id: int, now: float
    ) -> bytes:
        """What is alike in all answers of one flush, serialised once."""
        setting = self.setting
        gsa = GroupSecurityAssociation(
            group=setting.description,
            conference_id=setting.conference_id,
            description=setting.signed_description,
            update_number=update_number,
            roster=roster,
            backbone=setting.backbone,
            epoch=epoch,
            next_sender_id=next_sender_id,
            time_ms=round(now * 1000),
        )
        return gsa.SerializeToString()

    def of_member(
        self,
        joiner: Joiner,
        sender_id: int | None,
        welcome: bytes | None,
        right: DistributionRight | None,
        shared: bytes,
    ) -> bytes:
        """The answer to a member; without a `welcome` to a host that keeps its keys."""
        own = GroupSecurityAssociation(sender_id=sender_id, gkm_welcome=welcome or b"")
        if right is not None:
            own.distribution_right.CopyFrom(sign_right(self.setting.authorizer, right))
            own.access_list = self.setting.access_list()
        return seal_association(joiner.request, joiner.request_hash, shared, own)

    def of_sender(self, joiner: SendOnlyJoiner, sender_id: int, epoch: Epoch, now: float) -> bytes:
        """The answer to a host that is to send only."""
        setting, request = self.setting, joiner.request
        association = self.sending(sender_id, epoch, now)
        association.group.CopyFrom(setting.description)
        association.conference_id = setting.conference_id
        association.description.CopyFrom(setting.signed_description)
        return seal_sending(request.hpke_suite, request.hpke_public_key, joiner.request_hash, association)

    def sending(self, sender_id: int, epoch: Epoch, now: float) -> SendingAssociation:
        """What a host that only sends has of an epoch: the key of its own SPI, and nothing that leads to another."""
        setting = self.setting
        group = setting.description
        suite = suite_named(group.policy.suite)
        own = derive_traffic_key(epoch.key, setting.domain, group.group_id, epoch.number, suite, sender_id)
        return SendingAssociation(
            sender_id=sender_id,
            epoch=epoch.number,
            keymat=own.reveal(),
            activation_ms=max(0, round((epoch.activates_at - now) * 1000)),
            time_ms=round(now * 1000),
        )
