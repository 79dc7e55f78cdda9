"""Groups of `lkh` for its tests."""

from __future__ import annotations

import pytest

from mcsa.gkm.key_derivation import CONFIRMATION_SIZE, grown
from mcsa.gkm.lkh import KeyServer, Lkh
from mcsa.gkm.lkh_member import TreeMember
from mcsa.v1.gkm_lkh_pb2 import LkhTreeChange
from tests.gkm.test_conformance import Crowd
from tests.world import seeded

DEGREES = pytest.mark.parametrize("degree", [2, 3, 4, 8])


def server_of(crowd: Crowd) -> KeyServer:
    assert isinstance(crowd.authority, KeyServer)
    return crowd.authority


def member_of(crowd: Crowd, name: str) -> TreeMember:
    member = crowd.present[name]
    assert isinstance(member, TreeMember)
    return member


def crowd_of(size: int, degree: int = 4, seed: int = 1) -> Crowd:
    crowd = Crowd(Lkh(degree), seed)
    crowd.change([f"m{number}" for number in range(size)])
    return crowd


def server_with(size: int, degree: int = 4) -> KeyServer:
    server = Lkh(degree).create(seeded(1))
    server.change({f"m{number}": b"" for number in range(size)}, [], replace_key=False)
    return server


def tree_change(rekey: bytes) -> LkhTreeChange:
    return LkhTreeChange.FromString(rekey[:-CONFIRMATION_SIZE])


def path_in_tree(crowd: Crowd, name: str) -> list[bytes]:
    """A member's keys as they are in the tree, which may have grown without its being told."""
    path = list(member_of(crowd, name)._path)
    while len(path) <= server_of(crowd).tree.height:
        path.append(grown(path[-1]))
    return path


def all_agree(crowd: Crowd) -> bool:
    return {member.key for member in crowd.present.values()} <= {crowd.authority.key}
