"""Ballardie's multicast key distribution (RFC 1949), in essence.

The primary core is the group's first key distribution centre (our Authorizer). Whoever has joined becomes a key
distribution centre (GKDC) too and serves joins near it, so that a join need not reach the core. All have one group key
and one KEK, under which the group key is replaced before it expires (RFC 1949, section 6). For excluding somebody the
RFC knows only "a newly-formed group" (section 8): new keys for each that stays.

What maps to what:

- primary core: `FlatAuthority`, at the Authorizer; GKDC: any `FlatMember`, by `welcome`.
- host token: the host's signed registration, with its contribution in it.
- access list, signed by the core: a signed statement of the Authorizer's that each GKDC holds registrations against.
- group access package, {group key, KEK} under the host's public key: `FlatWelcome`, sealed to the newcomer and signed
  by who made it. It carries the core's public key for the group, which the core has to have signed too.
- the core hears of joins (a join-ack's path in the RFC): `adopt`, from the GKDC's signed report.

The packages, signatures and lists are the system's; this module has the keys. It differs from the RFC in two things: a
GKDC makes a KEK with the newcomer (a fresh X25519 key on both sides) rather than encrypting to the newcomer's public
key, and the KEK is replaced with each group key, so that a newcomer opens no earlier rekey.
"""

from __future__ import annotations

from mcsa.gkm.flat import FlatScheme
from mcsa.gkm.interface import Promises


class Cbt(FlatScheme):
    """The plug-in. Who joins at a GKDC gets the present key, and can read this epoch from its start."""

    name = "cbt"
    title = "Core based trees, Ballardie, RFC 1949"
    promises = Promises(
        forward_secrecy=True,
        backward_secrecy=True,
        trusted_with_keys="the Authorizer; every member that serves joins, with whom it gives the present keys to",
        join_cost="1 sealed answer, 1 wrap multicast; at a GKDC 1 sealed answer, and the key stays",
        leave_cost="n wraps in one multicast",
    )

    distributors = "members"


SCHEME = Cbt()
