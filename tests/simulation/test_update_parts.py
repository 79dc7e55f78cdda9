"""Updates of more than a datagram, by the multicast alone, on a bad network, with a member that forges parts."""

from __future__ import annotations

from itertools import count

import pytest

from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.suite import suite_named
from mcsa.membership import Membership
from mcsa.update_parts import DATAGRAM_MAX, split_update
from mcsa.updates import PORT, beacon_message, parse_message, update_message
from mcsa.v1.authorizer_pb2 import GroupMessage, SealedUpdate
from mcsa.v1.msm_pb2 import LeaveGroupRequest
from mcsa.v1.types_pb2 import GroupPolicy
from tests.simulation.domain import Domain
from tests.simulation.network import START, Frame, Weather
from tests.simulation.nodes import AuthorizerNode, MsmNode
from tests.world import World

HOSTS = tuple(f"host{number}" for number in range(40))
SOME, FEW = HOSTS[:25], HOSTS[:4]
ESP_MAX = DATAGRAM_MAX + 45


@pytest.fixture(scope="module")
def world() -> World:
    return World(now=START)


def gathered(
    world: World, seed: int, hosts: tuple[str, ...], policy: GroupPolicy | None = None
) -> tuple[Domain, bytes]:
    """A group of these hosts, and its id."""
    flat = GroupPolicy(gkm="gkmp")  # whose updates of a leave are long
    flat.MergeFrom(policy or GroupPolicy())
    domain = Domain(seed, hosts=hosts, world=world)
    users = {host: f"user-of-{host}" for host in hosts}
    created = domain.create(host=hosts[0], acceptable=tuple(users.values()), policy=flat)
    for host, user in users.items():
        assert domain.csm[host].join(created.groups[0], created.conference_id, user).refused is None
    domain.network.run_for(1.0)
    return domain, created.groups[0].group_id


def tell_nothing(node: MsmNode) -> None:
    """What is published on the bus is lost."""
    node.told = lambda subject, raw: None  # type: ignore[method-assign]


def cut_off(node: MsmNode) -> None:
    """From the bus: answers are lost, too."""
    tell_nothing(node)
    node.answered = lambda raw: None  # type: ignore[method-assign]


def leave(domain: Domain, group_id: bytes, host: str) -> bytes:
    """The update that follows."""
    user = str(domain.world.user(f"user-of-{host}").id)
    assert domain.csm[host].ask("leave-group", LeaveGroupRequest(group_id=group_id, user=user)).refused is None
    domain.network.run_for(1.0)
    group = domain.authorizer.core.groups[group_id]
    return latest(domain, group_id, group.told.number)


def latest(domain: Domain, group_id: bytes, number: int) -> bytes:
    """The update of that number, which is the last."""
    updates = domain.authorizer.core.groups[group_id].updates_since(number - 1)
    assert updates is not None and len(updates) == 1
    return updates[0]


def following(domain: Domain, group_id: bytes) -> set[str]:
    """Hosts that are in the Authorizer's epoch."""
    epoch = domain.authorizer.core.groups[group_id].told.epoch
    memberships = {host: node.core.memberships.get(group_id) for host, node in domain.msm.items()}
    return {host for host, membership in memberships.items() if membership is not None and membership.epoch == epoch}


def datagrams(domain: Domain, group_id: bytes) -> list[bytes]:
    """All that the Authorizer sent to the group."""
    address = domain.authorizer.core.groups[group_id].description.address
    frames = [frame for frame in domain.network.frames if frame.way == "multicast"]
    return [frame.raw for frame in frames if (frame.source, frame.destination) == (AuthorizerNode.ADDRESS, address)]


@pytest.mark.parametrize("seed", range(2))
def test_who_is_cut_off_from_the_bus_follows_a_leave_by_multicast_with_a_tenth_lost(world: World, seed: int):
    domain, group_id = gathered(world, seed, HOSTS)
    cut_off(domain.msm["host1"])
    domain.network.weather = Weather(loss=0.1, duplication=0.1, jitter=0.02)
    update = leave(domain, group_id, "host7")
    assert len(update) > 3_000
    assert following(domain, group_id) == {*HOSTS} - {"host7"}
    assert max(map(len, datagrams(domain, group_id))) <= ESP_MAX
    assert domain.msm["host1"].core.memberships[group_id].state == "member"


def test_where_policy_keeps_updates_off_the_multicast_beacons_alone_are_sent(world: World):
    domain, group_id = gathered(world, 1, FEW, GroupPolicy(multicast_updates=False))
    assert domain.authorizer.core.groups[group_id].description.policy.HasField("multicast_updates")
    cut_off(domain.msm["host1"])
    before = len(datagrams(domain, group_id))
    leave(domain, group_id, "host3")
    assert following(domain, group_id) == {*FEW} - {"host3", "host1"}
    assert 0 < len(datagrams(domain, group_id)) - before <= 3  # one beacon a second, and one for the new epoch


class Forger:
    """A member that speaks as the Authorizer on the multicast: it has the group's key, and lies about its address."""

    def __init__(self, domain: Domain, group_id: bytes, node: MsmNode) -> None:
        self._network = domain.network
        path, membership = node.paths[group_id], node.core.memberships[group_id]
        self.address, epoch = path.group.address, membership.epoch
        authorizer = next(sid for sid, entry in membership.roster.items() if "/authorizer/" in entry.host)
        suite = suite_named(path.group.policy.suite)
        key = derive_traffic_key(path._keys[epoch], domain.world.domain, group_id, epoch, suite, authorizer)
        self._association = OutboundAssociation(key)
        self._association._numbers = count(700)  # ahead of the Authorizer, and within everybody's replay window

    def say(self, payload: bytes) -> None:
        self._network.send(AuthorizerNode.ADDRESS, self.address, self._association.seal(payload, PORT, PORT))


def lies(number: int, genuine: bytes, group_id: bytes, *, spare_first: bool) -> list[bytes]:
    """Parts under the true digest, parts of false wholes, whole false updates, nonsense."""
    false_parts = []
    for datagram in split_update(number, genuine):
        message = parse_message(datagram)
        message.part.body = bytes(len(message.part.body))
        false_parts.append(message.SerializeToString())
    false = SealedUpdate(group_id=group_id, number=number, nonce=bytes(12), ciphertext=bytes(3_000)).SerializeToString()
    nonsense = [b"", b"\xff", beacon_message(b"nonsense"), GroupMessage(update=b"").SerializeToString()]
    return [*false_parts[spare_first:], *split_update(number, false), *split_update(number + 1, false), *nonsense]


def let_lie(domain: Domain, group_id: bytes, *, each_time: bool) -> list[Frame]:
    """A member's lies overtake the first part of the next update, or each of them, each time; which parts they were."""
    forger = Forger(domain, group_id, domain.msm["host2"])
    number = domain.authorizer.core.groups[group_id].told.number + 1
    domain.network.weather = Weather(jitter=0.0)
    overtaken: list[Frame] = []
    speaking = [False]

    def speak_first(frame: Frame, _: str) -> bool:
        its_part = frame.source == AuthorizerNode.ADDRESS and not speaking[0] and len(frame.raw) > 800
        if its_part and (not overtaken or (each_time and frame is not overtaken[-1])):
            overtaken.append(frame)
            speaking[0] = True
            for lie in lies(number, latest(domain, group_id, number), group_id, spare_first=not each_time):
                forger.say(lie)
            speaking[0] = False
        return False

    domain.network.drops.append(speak_first)
    return overtaken


def test_a_member_that_forges_parts_is_harmless(world: World):
    domain, group_id = gathered(world, 5, SOME)
    cut_off(domain.msm["host1"])
    overtaken = let_lie(domain, group_id, each_time=False)
    leave(domain, group_id, "host7")
    assert overtaken and following(domain, group_id) == {*SOME} - {"host7"}
    counters = domain.msm["host1"].endpoint.counters
    assert [counters[f"rejected.update.{cause}"] >= 1 for cause in ("malformed", "integrity", "digest")] == [True] * 3


def test_who_is_kept_from_an_update_by_forged_parts_for_as_long_as_it_is_sent_repairs_it(world: World):
    domain, group_id = gathered(world, 5, SOME)
    tell_nothing(domain.msm["host1"])
    cut_off(domain.msm["host4"])
    overtaken = let_lie(domain, group_id, each_time=True)
    leave(domain, group_id, "host7")
    assert len(overtaken) >= 6
    domain.network.run_for(3.0)
    assert following(domain, group_id) == {*SOME} - {"host7", "host4"}


def test_a_forged_update_that_came_early_takes_nothing_from_the_one_before_it(world: World):
    domain, group_id = gathered(world, 6, FEW)
    alpha = domain.msm["host1"]
    membership: Membership = alpha.core.memberships[group_id]
    cut_off(alpha)
    false = SealedUpdate(group_id=group_id, number=membership.number + 2, nonce=bytes(12), ciphertext=bytes(99))
    assert membership.message_arrived(update_message(false.SerializeToString()), domain.network.now) == []
    leave(domain, group_id, "host3")
    assert "host1" in following(domain, group_id)
    assert membership.state == "member" and alpha.send(group_id, b"under the new key")
    domain.network.run_for(0.5)
    assert [received.payload for received in domain.msm["host2"].received[group_id]] == [b"under the new key"]


def test_what_is_too_far_ahead_is_not_kept(world: World):
    domain, group_id = gathered(world, 8, FEW)
    membership = domain.msm["host1"].core.memberships[group_id]
    for ahead in range(2, 200):
        number = membership.number + ahead
        false = SealedUpdate(group_id=group_id, number=number, nonce=bytes(12), ciphertext=bytes(60_000))
        for datagram in split_update(number, false.SerializeToString()):
            membership.message_arrived(datagram, domain.network.now)
        membership.message_arrived(update_message(false.SerializeToString()), domain.network.now)
    assert 0 < sum(map(len, membership._early.values())) <= 2 << 20
