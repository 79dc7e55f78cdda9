"""What is asked of one group at the Authorizer: who is to come, to go, to stay. It waits for the next flush."""

from __future__ import annotations

from collections.abc import Iterable

from mcsa.errors import Refused, Rejected
from mcsa.gkm import scheme_named
from mcsa.registration import check_source_key
from mcsa.sealing import check_public_key
from services.authorizer.addresses import check_unclaimed
from services.authorizer.batch import Adoption, Joiner, SendOnlyJoiner
from services.authorizer.group_answers import GroupAnswers
from services.authorizer.group_state import AGENT
from services.authorizer.room import CHANGE_SIZE, ENTRY_SIZE, ROSTER_SIZE, check_members, check_roster, check_users


class GroupChanges(GroupAnswers):
    """See the module. Whether somebody may join is decided before."""

    def join(self, joiner: Joiner, now: float) -> Joiner | None:
        """Admits a host, and the user it speaks for, at the next flush; returns the joiner it takes the place of.

        Raises `Refused` where the request's key material can't be used, or no room is left (`room.py`).
        """
        self._check_room(joiner)
        check_source_key(joiner.request, self.policy)
        try:
            check_public_key(joiner.request.hpke_suite, joiner.request.hpke_public_key)
            self.gkm.check_contribution(joiner.request.gkm_contribution)
        except Rejected as rejected:
            sentence = f"the registration's keys can't be used: {rejected}"
            raise Refused("key-material", rejected.cause, sentence) from None
        if joiner.request.sender:
            self._claim_address(joiner)
        superseded = self.batch.join(joiner)
        self.batch.due(now + self.policy.batch_ms / 1000, joiner.traceparent)
        return superseded

    def join_send_only(self, joiner: SendOnlyJoiner, now: float) -> None:
        """Has a host send, as no member, from the next flush on; a member it is no longer, or isn't to be.

        Raises `Refused` where no room is left. The request's key was checked.
        """
        self._check_roster(joiner)
        check_source_key(joiner.request, self.policy)
        self._claim_address(joiner)
        self.remove_host(joiner.host, now)
        self.batch.join_send_only(joiner)
        self.batch.due(now + self.policy.batch_ms / 1000, joiner.traceparent)

    def _claim_address(self, joiner: Joiner | SendOnlyJoiner) -> None:
        """No other host sends from there, or is about to; `Refused`. The Authorizer may be on a host's machine."""
        address, host = joiner.request.address, joiner.host.removesuffix(AGENT)
        claimants = {self.roster[each].host for each in self.roster.senders_at(address) if each != self.own_sender_id}
        check_unclaimed(address, host, {*claimants, self.batch.claims.get(address, host)})
        self.batch.claims[address] = host

    def _check_room(self, joiner: Joiner) -> None:
        member, waiting = self.members.get(joiner.host), self.batch.joiners
        if member is None and joiner.host not in waiting:
            check_members(scheme_named(self.policy.gkm), len(self.members) + len(waiting))
        users = set() if member is None else member.users
        check_users(len(users | {joiner.user or ""}))
        listed = member is not None and member.sender_id is not None
        if (joiner.user not in users) if listed else joiner.request.sender:
            self._check_roster(joiner)

    def _check_roster(self, joiner: Joiner | SendOnlyJoiner) -> None:
        size, waiting = self.roster.size + self.distant.size, self.batch.waiting
        if size + ENTRY_SIZE * (len(waiting) + 1) > ROSTER_SIZE:  # may be full: then it is worth adding up
            senders = [joiner, *(each for each in waiting if isinstance(each, SendOnlyJoiner) or each.request.sender)]
            check_roster(size + sum(CHANGE_SIZE + sum(map(len, sender.listed)) for sender in senders))

    # ---- leaving

    def remove_user(self, user: str, now: float, *, host: str | None = None, eject: bool = False) -> bool:
        """Takes a user off; the host goes only with its last user. True where that changed anything."""
        waiting = [
            joiner.host for joiner in self.batch.joiners.values() if joiner.user == user and host in (None, joiner.host)
        ]
        for name in waiting:
            self.batch.dismiss(name)
        waiting_too = [each.joiner for each in self.batch.adopting.values() if each.joiner.user == user]
        for name in [joiner.host for joiner in waiting_too if host in (None, joiner.host)]:
            self.batch.dismiss(name)
        hosts = self.members.hosts_of(user) if host is None else self._with_user(host, user)
        for name in hosts:
            self.batch.users_leaving.setdefault(name, set()).add(user)
        for sender in [each for each in self.batch.send_only.values() if each.user == user]:
            if host in (None, sender.host):
                self.batch.dismiss(sender.host)
        ended = self.end_sending(self.send_only.of_user(user, host), now, eject=eject)
        return self._removed(hosts, now, eject=eject) or ended

    def _with_user(self, host: str, user: str) -> list[str]:
        member = self.members.get(host)
        return [host] if member is not None and user in member.users else []

    def remove_host(self, host: str, now: float, *, eject: bool = False) -> bool:
        """Takes a host off, and all its users."""
        self.batch.dismiss(host)
        hosts = [host] if host in self.members else []
        self.batch.leaving.update(hosts)
        ended = self.end_sending([host], now, eject=eject)
        return self._removed(hosts, now, eject=eject) or ended

    def end_sending(self, hosts: Iterable[str], now: float, *, eject: bool = False) -> bool:
        """Takes off hosts that send and are no members, where they are there; no key has to be replaced for it. True
        where that changed anything."""
        ending = [host for host in hosts if host in self.send_only]
        if ending:
            self.batch.send_only_ending.update(ending)
            self.batch.ejecting = self.batch.ejecting or eject
            self.batch.due(now if eject else now + self.policy.batch_ms / 1000)
        return bool(ending)

    def _removed(self, hosts: list[str], now: float, *, eject: bool) -> bool:
        unknown = eject and self.blocks.possible  # it may have been welcomed, and not be known here
        self.batch.somebody_left = self.batch.somebody_left or unknown
        if hosts or self.batch.somebody_left:
            self.batch.ejecting = self.batch.ejecting or eject
            self.batch.ejected.update(hosts if eject else [])
            # an ejection flushes the batch at once
            self.batch.due(now if eject else now + self.policy.batch_ms / 1000)
        return bool(hosts) or unknown

    # ---- leases

    def renew(self, host: str, now: float) -> bool:
        """The host is still there; False where it is no member."""
        if host not in self.members:
            return False
        self.members.renew(host, now + self.policy.lease_s)
        return True

    def renew_send_only(self, host: str, sender_id: int, now: float) -> bool:
        """Likewise a host that sends; False where it doesn't, under this sender ID."""
        return self.send_only.renew(host, sender_id, now + self.policy.lease_s)

    def sweep(self, now: float) -> int:
        """Takes off the hosts whose lease has ended; returns how many. To be called at `sweep_at`."""
        self.sweep_at = now + max(1.0, self.policy.lease_s / 10)
        returning = self.batch.joiners.keys() | self.batch.adopting.keys()
        lapsed = [host for host in self.members.lapsed(now) if host not in returning]
        for host in lapsed:
            self.remove_host(host, now)
        silent = self.send_only.lapsed(now)
        self.end_sending(silent, now)
        return len(lapsed) + len(silent)

    def next_at(self, *, busy: bool) -> float:
        """When something is to be done for the group; while it is `busy`, nothing is flushed."""
        if busy:
            return self.sweep_at
        due_at = self.rekey_at if self.batch.due_at is None else min(self.rekey_at, self.batch.due_at)
        return min(self.sweep_at, due_at)

    # ---- members that serve joins

    def restock(self, host: str, first_sender_id: int, now: float) -> None:
        """A distributor has used up its block."""
        block = self.blocks.of(host)
        if block is not None and block.first_sender_id == first_sender_id and block.given_in <= self.told.number:
            self.batch.restocking.add(host)
            self.batch.due(now + self.policy.batch_ms / 1000)

    def adopt(self, adoption: Adoption, now: float) -> None:
        """Takes over a member that a distributor has welcomed, at the next flush; the key stays.

        Raises `Refused`: "sender-id" for one that isn't the distributor's to give, or was given; "key-material";
        "busy" where the host is about to be taken off.
        """
        host, batch = adoption.joiner.host, self.batch
        block = self.blocks.of(adoption.distributor)
        given = {waiting.sender_id for waiting in batch.adopting.values()}
        if block is None or not block.has(adoption.sender_id) or adoption.sender_id in block.used | given:
            sentence = f"sender ID {adoption.sender_id} is not the distributor's to give, or was given before"
            raise Refused("sender-id", "block", sentence)
        if host in batch.leaving or host in batch.users_leaving:
            raise Refused("busy", "one-change-at-a-time", "the host is about to be taken off; report again")
        check_source_key(adoption.joiner.request, self.policy)
        try:
            self.gkm.check_contribution(adoption.joiner.request.gkm_contribution)
        except Rejected as rejected:
            sentence = f"the registration's keys can't be used: {rejected}"
            raise Refused("key-material", rejected.cause, sentence) from None
        if adoption.joiner.request.sender:
            self._claim_address(adoption.joiner)
        # what the host was before may have welcomed others
        came_back = self.blocks.of(host) is not None or (adoption.keyed_elsewhere and host in self.members)
        batch.somebody_left = batch.somebody_left or came_back
        batch.adopting[host] = adoption
        batch.due(now + self.policy.batch_ms / 1000, adoption.joiner.traceparent)

    def leave_somebody_out(self, now: float, *, blaming: str | None = None) -> None:
        """Who was welcomed and isn't adopted must have no key any more; `blaming` a distributor, which loses its block
        for as long as it stays."""
        self.batch.forfeiting |= set() if blaming is None else {blaming}
        self.batch.somebody_left = True
        self._removed([], now, eject=True)
