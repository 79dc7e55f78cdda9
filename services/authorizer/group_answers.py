"""What one group at the Authorizer tells its hosts: rights of distributors, updates, keys of senders."""

from __future__ import annotations

from collections.abc import Mapping

from mcsa.distribution import RIGHT_FOR, access_list_hash
from mcsa.gkm import Distributing
from mcsa.v1.authorizer_pb2 import Beacon, DistributionRight, SendingAssociation
from services.authorizer.associations import Epoch
from services.authorizer.batch import Adoption, Joiner, SendOnlyJoiner
from services.authorizer.group_state import GroupState

ACCESS_LIST_SIZE = 1 << 16  # bytes; where it is longer, the group has no distributors


class GroupAnswers(GroupState):
    """See the module. Nothing here changes the group."""

    def updates_since(self, number: int) -> list[bytes] | None:
        """The updates after `number` that may be told; see `KeptUpdates.since`."""
        return self._updates.since(number, self.told.number)

    def is_outlived_by(self, beacon: Beacon) -> bool:
        """The beacon, which this very Authorizer signed, tells of what this group knows nothing of."""
        later = beacon.epoch > self.epoch or beacon.update_number > self.number
        return later or beacon.next_sender_id > self.sender_ids.next or self._updates.contradict(beacon)

    def hosts_of_domain(self, domain: str) -> list[str]:
        """Members of another domain."""
        prefix = f"spiffe://{domain}/host/"
        return [member.host for member in self.members if member.host.startswith(prefix)]

    def sending_key(self, host: str, now: float) -> SendingAssociation | None:
        """What a host that only sends may have of the epoch that was told last: the key of its own packets. None where
        it is none."""
        sender = self.send_only.get(host)
        if sender is None or sender.sender_id is None:
            return None
        told = Epoch(self.told.epoch, self._told_key, self._activates_at)
        return self._answers.sending(sender.sender_id, told, now)

    def _associate(
        self, joiners: list[Joiner], welcomes: Mapping[str, bytes], now: float
    ) -> list[tuple[Joiner, bytes]]:
        """The answers to those that were let in as members."""
        if not joiners:
            return []
        roster = (*self.roster.values(), *self.distant.values())
        shared = self._answers.shared(self.number, roster, self.epoch, self.sender_ids.next, now)
        answers = []
        for joiner in joiners:
            welcome = welcomes.get(joiner.host)  # none for a host that keeps its keys
            sender_id = self._member(joiner.host).sender_id if welcome else None
            right = self.right_of(joiner.host, now, told=False) if welcome else None
            answers.append((joiner, self._answers.of_member(joiner, sender_id, welcome, right, shared)))
        return answers

    def _associate_sender(self, joiner: SendOnlyJoiner, now: float) -> bytes:
        given = self._sender(joiner.host).sender_id or 0
        epoch = Epoch(self.epoch, self.gkm.key, self._activates_at)
        return self._answers.of_sender(joiner, given, epoch, now)

    # ---- members that serve joins

    def right_of(self, host: str, now: float, *, told: bool = True) -> DistributionRight | None:
        """What a host may distribute; None where it may not. `told`: only what is stored."""
        block = self.blocks.of(host)
        access_list = self._setting.access_list()
        if (
            block is None
            or not block.sender_ids
            or not self.blocks.permits(host)
            or len(access_list) > ACCESS_LIST_SIZE
        ):
            return None
        if told and block.given_in > self.told.number:
            return None
        assert isinstance(self.gkm, Distributing)
        return DistributionRight(
            group_id=self.id,
            distributor=host,
            authority_public_key=self.gkm.public_key,
            first_sender_id=block.first_sender_id,
            sender_ids=block.sender_ids,
            access_list=access_list_hash(access_list),
            expires_ms=round((now + RIGHT_FOR) * 1000),
        )

    @property
    def access_list(self) -> bytes:
        """What distributors hold registrations against, serialised."""
        return self._setting.access_list()

    def asked_last(self, host: str) -> int:
        """By a host's own clock, milliseconds: its last registration of the last minutes; 0 for none."""
        joiners = [self.batch.joiners.get(host)]
        joiners += [each.joiner for each in self.batch.adopting.values() if each.joiner.host == host]
        waiting = [joiner.request.asked_ms for joiner in joiners if joiner is not None]
        return max([*waiting, self._admissions.asked_last(host)])

    def has_adopted(self, adoption: Adoption) -> bool:
        """This very member, from this very request."""
        admission = self._admissions.of(adoption.joiner.request_hash)
        return (admission.host, admission.sender_id) == (adoption.joiner.host, adoption.sender_id)
