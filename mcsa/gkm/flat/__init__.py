"""A flat group: every member shares a KEK with the authority, all share the group KEK.

`cbt` and `kd` are such, and each subgroup of `iolus`.

The authority has one X25519 key pair for the group, so that it can make the pairwise KEK of a member that it has never
spoken to: one that another member welcomed. Where nobody left, a rekey is one wrap under the group KEK, which it
replaces too; where somebody left, it is a newly formed group, a wrap for each that stays under its pairwise KEK. So no
new key is ever wrapped under a key that a departed member had.

A rekey under the group KEK proves that a member made it, no more: that it is the Authorizer's, its signature proves
(`mcsa.updates`).
"""

from mcsa.gkm.flat.authority import FlatAuthority
from mcsa.gkm.flat.member import FlatCandidate, FlatMember
from mcsa.gkm.flat.scheme import FlatScheme

__all__ = ["FlatAuthority", "FlatCandidate", "FlatMember", "FlatScheme"]
