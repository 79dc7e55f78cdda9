"""The MSM's core in several networks: which address it registers with, and whom a change touches."""

from __future__ import annotations

from typing import Any

import pytest

from mcsa.endpoint import Refuse, Request
from mcsa.membership import Membership
from mcsa.networks import DEFAULT, Network, Networks
from mcsa.sealing import SealingKey
from mcsa.v1 import msm_pb2 as wire
from mcsa.v1.authorizer_pb2 import GroupSecurityAssociation
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.core_groups import Settings
from services.msm.core_joining import Join
from services.msm.events import GroupOpened, NetworkChanged
from services.msm.gpad import Accepted
from tests.services.msm.test_sending_only import GROUP_ID, HOME, Desk, told
from tests.world import NOW, World

CONTROL, MEDIA = "198.51.100.9", "203.0.113.9"
PREFIX, AWAY = "239.193.0.0/16", "239.194.0.0/16"
NETWORKS = {DEFAULT: Network(CONTROL), PREFIX: Network(MEDIA, interface="eth1"), AWAY: Network("")}


def desk_at(world: World, address: str) -> Desk:
    """Whose one group is there."""
    desk = Desk(world)
    desk.core.settings = Settings(Networks(NETWORKS), "sd", [Accepted(HOME, "239.0.0.0/8")])
    desk.group.address = address
    return desk


def needs_statement(effects: list[Any]) -> bool:
    return "statement-needed" in told(effects)


@pytest.mark.parametrize(("group", "own"), [("239.1.1.1", CONTROL), ("239.193.7.7", MEDIA)])
def test_it_sends_from_the_address_in_the_groups_network(world: World, group: str, own: str) -> None:
    message: Any = desk_at(world, group).registering().message
    assert message.address == own


def test_another_address_is_told_in_that_network_only(world: World) -> None:
    for group, touched in (("239.1.1.1", False), ("239.193.7.7", True)):
        desk = desk_at(world, group)
        desk.sending()
        effects = desk.core.handle(NetworkChanged(PREFIX, Network("203.0.113.10")), NOW)
        assert needs_statement(effects) is touched
        again = desk.core.sending_only._own_address(group)
        assert again == ("203.0.113.10" if touched else CONTROL)


def test_trouble_in_one_network_is_told_of_its_groups_only(world: World) -> None:
    for group, interface, trouble in (("239.1.1.1", "", ""), ("239.193.7.7", "eth1", "eth1 is down")):
        desk = desk_at(world, group)
        desk.sending()
        effects = desk.core.handle(NetworkChanged(PREFIX, Network(MEDIA, "eth1 is down", interface="eth1")), NOW)
        assert not needs_statement(effects)
        (answer,) = desk.ask("describe-groups", wire.DescribeGroupsRequest())
        (state,) = answer.message.groups
        assert (state.network, state.interface) == (trouble, interface)


def test_what_it_is_not_in_is_refused_before_anything_is_opened(world: World) -> None:
    desk = desk_at(world, "239.194.1.1")
    (refused,) = [effect.refusal for effect in desk.open() if isinstance(effect, Refuse)]
    assert refused.code == "network" and AWAY in refused.sentence
    assert GROUP_ID not in desk.core.sending_only.groups
    asked = wire.JoinGroupRequest(group=desk.group, authorizer=HOME, user="eve")
    (refused,) = [effect.refusal for effect in desk.ask("join-group", asked) if isinstance(effect, Refuse)]
    assert refused.code == "network" and not desk.core.memberships


def test_one_sender_is_named_by_its_address_in_the_network_of_the_group(world: World) -> None:
    core = desk_at(world, "239.1.1.1").core
    core.settings = Settings(core.settings.networks.changed("232.0.0.0/8", Network("192.0.2.9")), "sd", [])
    alone = GroupDescription(one_sender=True)
    assert core._sends_from([GroupDescription()]) == CONTROL
    assert core._sends_from([GroupDescription(), alone]) == "192.0.2.9"
    assert core._sends_from([GroupDescription(one_sender=True, address="239.193.1.1")]) == MEDIA


def test_a_membership_registers_again_where_its_subgroup_is_in_another_network(world: World) -> None:
    """It is told the subgroup when it has registered, as whom the group's own network knows it."""
    desk = desk_at(world, "239.193.7.7")
    desk.group.policy.gkm = "iolus"
    who = str(world.host("echo").id)
    membership = Membership(desk.group, HOME, HOME, bytes(16), who, world.trust(), desk.core.random)
    join = Join("csm", wire.JoinGroupRequest(user="eve"), SealingKey.generate("x25519"), address=MEDIA)
    subgroup = GroupDescription(group_id=bytes([1] * 16), address="239.1.1.5", port=5004, policy=desk.group.policy)
    desk.core.memberships[GROUP_ID], desk.core._joins[GROUP_ID] = membership, join
    join.association = GroupSecurityAssociation(group=subgroup)
    membership.enter(subgroup)
    (request,) = desk.core.handle(GroupOpened(subgroup.group_id, "/socket"), NOW)
    assert isinstance(request, Request) and request.verb == "register"
    message: Any = request.message
    assert (message.address, message.group_id) == (CONTROL, GROUP_ID)
