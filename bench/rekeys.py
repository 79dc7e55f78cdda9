"""A group of a thousand from the Authorizer's side: its members' welcomes, then one sealed ejection after the other."""

from __future__ import annotations

import os
import time

from mcsa.authority import CertificationAuthority
from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.suite import suite_named
from mcsa.gkm import scheme_named
from mcsa.policy import complete_policy
from mcsa.trust import Trust
from mcsa.updates import PORT, seal_update, update_key, update_message
from mcsa.v1.authorizer_pb2 import GroupSecurityAssociation, GroupUpdate
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy, RosterEntry

DOMAIN = "bench.example"
GKM = "lkh"  # a rekey of `gkmp` for 1,000 members, 76 kB, fits into no datagram
_OWN_SENDER_ID = 1


class Rekeys:
    """So many members that stay, and others to be ejected, numbered after them."""

    def __init__(self, members: int, ejections: int, address: str, source: str) -> None:
        now = time.time()
        authority = CertificationAuthority.create(DOMAIN, now)
        scheme = scheme_named(GKM)
        policy = complete_policy(GroupPolicy(gkm=GKM))
        self.group = GroupDescription(group_id=bytes(16), name="bench", address=address, port=5004, policy=policy)
        self.authorizer = authority.issue("authorizer", "main", now)
        self.trust = Trust(DOMAIN, [authority.certificate])
        self.joining = [scheme.begin(os.urandom) for _ in range(members + ejections)]
        self._authority = scheme.create(os.urandom)
        contributions = {_host(number): each.contribution for number, each in enumerate(self.joining)}
        self._welcomes = self._authority.change(contributions, [], replace_key=False).welcomes
        self._epoch, self._number = round(now * 1000), 1
        self._leaving = members
        own = RosterEntry(sender_id=_OWN_SENDER_ID, host=str(self.authorizer.id), address=source)
        self._roster = [own, *(_entry(number, source) for number in range(len(self.joining)))]

    def association(self, member: int) -> GroupSecurityAssociation:
        """What a member starts from."""
        return GroupSecurityAssociation(
            group=self.group,
            sender_id=_sender_id(member),
            update_number=self._number,
            roster=self._roster,
            gkm_welcome=self._welcomes[_host(member)],
            epoch=self._epoch,
        )

    def eject(self) -> tuple[bytes, bytes]:
        """The next ejection: the update as it is told on the bus, and the datagram that carries it to the group."""
        before, under_epoch, now = self._authority.key, self._epoch, time.time()
        change = self._authority.change({}, [_host(self._leaving)], replace_key=True)
        self._number += 1
        self._epoch = max(self._epoch + 1, round(now * 1000))
        policy = self.group.policy
        update = GroupUpdate(
            group_id=self.group.group_id,
            number=self._number,
            epoch=self._epoch,
            gkm_rekey=change.rekey,
            removed=[_sender_id(self._leaving)],
            departed_users=[_user(self._leaving)],
            ejection=True,
            activation_ms=policy.ejection_activation_ms,
            deactivation_ms=policy.ejection_deactivation_ms,
        )
        self._leaving += 1
        key = update_key(before, self.group.group_id, under_epoch)
        raw = update_message(seal_update(update, under_epoch, key, self.authorizer, os.urandom, now))
        suite = suite_named(policy.suite)
        traffic = derive_traffic_key(before, DOMAIN, self.group.group_id, under_epoch, suite, _OWN_SENDER_ID)
        return raw, OutboundAssociation(traffic).seal(raw, PORT, PORT)


def _sender_id(number: int) -> int:
    return _OWN_SENDER_ID + 1 + number


def _host(number: int) -> str:
    return f"spiffe://{DOMAIN}/host/host-{number}"


def _user(number: int) -> str:
    return f"spiffe://{DOMAIN}/user/user-{number}"


def _entry(number: int, address: str) -> RosterEntry:
    return RosterEntry(sender_id=_sender_id(number), host=_host(number), users=[_user(number)], address=address)
