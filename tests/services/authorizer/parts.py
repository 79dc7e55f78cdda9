"""Large groups, without all that admits their members one by one."""

from __future__ import annotations

from ipaddress import IPv4Address
from zlib import crc32

from mcsa.gkm import scheme_named
from mcsa.policy import DEFAULTS
from mcsa.sealing import SealingKey
from mcsa.v1.authorizer_pb2 import RegisterRequest
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy, SignedStatement
from services.authorizer.batch import Joiner
from services.authorizer.group import Group
from services.authorizer.setting import Setting
from tests.world import NOW, World, seeded


def setting(world: World, gkm: str) -> Setting:
    policy = GroupPolicy()
    policy.CopyFrom(DEFAULTS)
    policy.gkm = gkm
    description = GroupDescription(group_id=bytes(16), address="239.255.64.1", port=5004, policy=policy)
    return Setting(description, bytes(16), SignedStatement(), world.authorizer, "198.51.100.1", seeded(1))


def host(number: int) -> str:
    return f"spiffe://example.org/host/host-{number:07}"


def address_of(host: str) -> str:
    """Each host's own, by its name."""
    return str(IPv4Address(0x0A000000 + crc32(host.encode()) % 0x1000000))


def fill(group: Group, members: int) -> None:
    """Receivers join, as many as fit into one flush at a time."""
    key = SealingKey.generate("x25519")
    contribution = scheme_named(group.policy.gkm).begin(seeded(2)).contribution
    request = RegisterRequest(
        hpke_suite="x25519", hpke_public_key=key.public, gkm_contribution=contribution, address="198.51.100.7"
    )
    for number in range(members):
        user = f"spiffe://example.org/user/user-{number}"
        group.join(Joiner(number, request, number.to_bytes(32, "big"), host(number), user), NOW)
        if number % 1_000 == 999 or number == members - 1:
            group.flush(NOW)
