"""Iolus, Mittra (SIGCOMM 97), in essence: many subgroups, each with a key and a multicast address of its own.

Subgroups are joined by relaying agents, hosts that are members of two and carry packets from one into the other. So a
change of members is a change of one subgroup's key, and costs what that subgroup's size makes it cost. This module has
the keys of one subgroup; what a relaying agent carries is `mcsa.esp.relayed`, what it does is
`services.msm.relaying`.

What maps to what:

- subgroup key K_sg: the group key of a flat group (`mcsa.gkm.flat`). Where Mittra sends the new K_sg under the old
  one, here it goes under a group KEK that is replaced with it: K_sg protects packets and wraps nothing.
- K_mbr, which a member shares with its agent: the pairwise KEK, shared with the subgroup's controller.
- join: the new key under the group KEK in one multicast, and the newcomer's sealed welcome.
- leave: one multicast with the new key under the pairwise KEK of each that stays, O(m) for m members in the subgroup,
  and nothing anywhere else.

What is different here:

- Mittra's agents (GSI) control their own subgroups: admit, remove, rekey. Here one Authorizer controls all subgroups,
  since the paper that this system follows has one place that admits, and an agent only relays: it is trusted with the
  keys of its two subgroups and the packets that pass, and with nobody's admission. What is lost is that a subgroup
  could go on admitting members without the controller.
- Mittra's sender encrypts a packet under a key of its own and attaches this under K_sg; an agent wraps the short key
  anew and leaves the rest. Here an agent opens the packet and seals it again: an ordinary ESP packet in each subgroup,
  whose SA, anti-replay and kernel drivers stay as they are. It costs the agent an AEAD over each payload twice, and an
  agent could read the payload either way, since it has both subgroups' keys.
- Mittra's agents are a tree of any depth; here it is a star of depth one: a backbone, and subgroups that are joined to
  it by one agent each.
"""

from __future__ import annotations

from mcsa.gkm.flat import FlatScheme
from mcsa.gkm.interface import Promises

SUBGROUP_SIZE = 256
"""Members of a subgroup at most, its agents included.

As many subgroups as the backbone takes agents make a star of 65,000 members; and a leave's rekey, 80 bytes for each
that stays, is 20 kB: with all around it one UDP datagram, which 800 members would fill.
"""


class Iolus(FlatScheme):
    """The plug-in, for one subgroup. That there are several, and which host is in which, is the Authorizer's."""

    name = "iolus"
    title = "Iolus: subgroups and relaying agents, Mittra, SIGCOMM 97"
    promises = Promises(
        forward_secrecy=True,
        backward_secrecy=True,
        trusted_with_keys="the Authorizer; each relaying agent, with the keys of the two subgroups that it joins",
        join_cost="1 sealed answer, 1 wrap multicast in one subgroup",
        leave_cost="m wraps in one multicast in one subgroup of m members; an agent's leave costs that in two",
        subgroup_size=SUBGROUP_SIZE,
    )

    distributors = "none"
    subgroups = True


SCHEME = Iolus()
