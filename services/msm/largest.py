"""How large an application's payload may be, so that its packet reaches the group in one piece."""

from __future__ import annotations

from ipaddress import ip_address

from mcsa.esp.ip import UDP_HEADER_SIZE, headers_size
from mcsa.esp.outbound import largest_payload
from mcsa.esp.relayed import ORIGIN_SIZE
from mcsa.gkm import scheme_named
from mcsa.shell.path_mtu import path_mtu
from mcsa.source_authentication import mode_named
from mcsa.v1.types_pb2 import GroupDescription


def taken_inside(group: GroupDescription) -> int:
    """Bytes that this group's packets have inside beside the application's payload."""
    policy = group.policy
    origin = ORIGIN_SIZE if scheme_named(policy.gkm).subgroups else 0
    return origin + mode_named(policy.source_authentication).overhead(policy)


def largest_of(group: GroupDescription, address: str) -> int:
    """Bytes, from the interface that has `address`; 0 where its MTU isn't known. Both wire forms have room for it."""
    mtu = path_mtu(group.address, address)
    ip_header_size = headers_size(ip_address(group.address).packed) - UDP_HEADER_SIZE
    return max(0, largest_payload(mtu, ip_header_size) - taken_inside(group)) if mtu else 0
