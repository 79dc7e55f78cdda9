"""Which addresses groups get, and who sends to those with one sender."""

from __future__ import annotations

import ipaddress

import pytest

from mcsa.errors import Refused
from mcsa.networks import Networks
from mcsa.policy import complete_policy
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.authorizer.addresses import AddressPools, add_own_source, check_pool, check_source, complete_sources
from services.authorizer.creating import new_addresses

ID = bytes(range(16))
HOST, HOST6 = "198.51.100.7", "fd00::7"
AUTHORIZER, AUTHORIZER6 = "198.51.100.1", "fd00::1"
POOLS = AddressPools("ff15::8000:0/120", ("232.64.0.0/30", "ff35::8000:0/97"))


def complete(asked: GroupDescription, host: str, authorizer: str) -> None:
    """In a group with an address of the host's family."""
    complete_sources(asked, host)
    asked.address = POOLS.give(asked, ID, set())
    add_own_source(asked, Networks.only(authorizer))


def group(**fields: object) -> GroupDescription:
    policy = fields.pop("policy", GroupPolicy())
    return GroupDescription(policy=complete_policy(policy), **fields)  # type: ignore[arg-type]


def rule_of(pools: AddressPools, asked: GroupDescription, taken: set[str] | None = None) -> str:
    with pytest.raises(Refused) as refused:
        pools.give(asked, ID, taken or set())
    assert refused.value.code == "address"
    return refused.value.rule


def test_an_address_of_the_pool_that_is_free() -> None:
    first = POOLS.give(group(), ID, set())
    second = POOLS.give(group(), ID, {first})
    assert first != second
    assert all(ipaddress.ip_address(one) in ipaddress.ip_network(POOLS.any_source) for one in (first, second))
    assert rule_of(AddressPools("239.1.1.0/31"), group(), {"239.1.1.0", "239.1.1.1"}) == "pool"


def test_an_address_that_was_asked_for_in_its_one_form() -> None:
    asked = group(address="FF15:0::8000:5")
    assert POOLS.give(asked, ID, set()) == "ff15::8000:5"
    assert rule_of(POOLS, asked, {"ff15::8000:5"}) == "in-use"
    assert rule_of(POOLS, group(address="fd00::5")) == "RFC 4291"
    assert rule_of(POOLS, group(address="232.1.1.1")) == "RFC 4607"
    assert rule_of(POOLS, group(address="all")) == "malformed"


def test_an_address_that_seems_to_be_in_use_is_given_last() -> None:
    pools, every = AddressPools("239.1.1.0/30"), [f"239.1.1.{number}" for number in range(4)]
    for number in range(16):
        group_id = bytes([0] * 7 + [number]) + bytes(8)
        assert pools.give(group(), group_id, set(), every[:3]) == every[3]
        assert pools.give(group(), group_id, {every[3]}, every[:3]) in every[:3]  # liars can't use the pool up
    assert rule_of(pools, group(), set(every)) == "pool"
    assert pools.give(group(address=every[0]), ID, set(), every) == every[0]  # the Coordinator's own choice


@pytest.mark.parametrize(("source", "network"), [(HOST, "232.64.0.0/30"), (HOST6, "ff35::8000:0/97")])
def test_groups_with_sources_are_source_specific_in_the_family_of_their_sources(source: str, network: str) -> None:
    given = POOLS.give(group(sources=[source]), ID, set())
    assert ipaddress.ip_address(given) in ipaddress.ip_network(network)


def test_where_there_is_no_such_pool_or_source() -> None:
    assert rule_of(AddressPools(source_specific=("232.64.0.0/10",)), group(sources=[HOST6])) == "pool"
    assert rule_of(POOLS, group(sources=["camera"])) == "malformed"
    assert rule_of(POOLS, group(sources=[HOST, HOST6])) == "address family"


@pytest.mark.parametrize(
    ("host", "authorizer", "sources"),
    [
        (HOST, AUTHORIZER, [HOST, AUTHORIZER]),
        (HOST6, AUTHORIZER6, [HOST6, AUTHORIZER6]),
        (HOST6, AUTHORIZER, [HOST6]),  # the bus alone tells of changes
        (AUTHORIZER, AUTHORIZER, [AUTHORIZER]),
    ],
)
def test_one_sender_is_the_coordinators_host_and_the_authorizer_tells_of_changes(
    host: str, authorizer: str, sources: list[str]
) -> None:
    asked = group(one_sender=True)
    complete(asked, host, authorizer)
    assert list(asked.sources) == sources


def test_without_updates_on_the_multicast_the_authorizer_is_no_source() -> None:
    policy = GroupPolicy()
    policy.multicast_updates = False
    asked = group(one_sender=True, policy=policy)
    complete(asked, HOST, AUTHORIZER)
    assert list(asked.sources) == [HOST]


def test_sources_that_were_named_stay_and_others_have_none() -> None:
    named, any_source = group(sources=["198.51.100.9"], one_sender=True), group()
    complete(named, HOST, AUTHORIZER)
    complete(any_source, HOST, AUTHORIZER)
    assert (list(named.sources), list(any_source.sources)) == (["198.51.100.9", AUTHORIZER], [])


def test_relaying_between_subgroups_takes_any_source() -> None:
    with pytest.raises(Refused) as refused:
        complete_sources(group(one_sender=True, policy=GroupPolicy(gkm="iolus")), HOST)
    assert refused.value.rule == "one-sender"


@pytest.mark.parametrize("address", ["", "alpha", "FD00::7", "fe80::1%eth0", "::ffff:198.51.100.7"])
def test_a_host_says_its_address_as_others_see_it(address: str) -> None:
    with pytest.raises(Refused) as refused:
        check_source(address)
    assert refused.value.rule == "source-address"
    with pytest.raises(Refused):
        complete_sources(group(one_sender=True), address)


def test_pools() -> None:
    assert check_pool("FF15::8000:0/120", source_specific=False) == "ff15::8000:0/120"
    assert check_pool("232.64.0.0/10", source_specific=True) == "232.64.0.0/10"
    for pool, source_specific in (
        ("198.51.100.0/24", False),
        ("224.0.0.0/4", True),  # not all of it
        ("239.0.0.0/8", True),
        ("232.0.0.0/8", False),
        ("ff35::/32", False),
        ("ff15::1/120", False),
    ):
        with pytest.raises(ValueError, match=r"network|RFC 4607|host bits"):
            check_pool(pool, source_specific=source_specific)


def test_groups_that_move_get_addresses_that_nobody_has() -> None:
    groups = [
        GroupDescription(group_id=bytes([number]) * 16, address=f"239.1.1.{number}", policy=GroupPolicy(wire="esp"))
        for number in range(2)
    ]
    taken = [group.address for group in groups]
    for in_use in ([], ["239.1.1.2", "239.1.1.3"]):
        assert sorted(new_addresses(groups, AddressPools("239.1.1.0/30"), taken, in_use)) == ["239.1.1.2", "239.1.1.3"]
    with pytest.raises(Refused):
        new_addresses(groups, AddressPools("239.1.1.0/31"), taken, [])


@pytest.mark.parametrize(
    ("near", "inside"),
    [
        ("239.255.64.9", "239.255.64.0/18"),  # of the pool
        ("239.255.1.1", "239.255.64.0/18"),  # not of the pool, but of its network
        ("239.193.7.7", "239.193.7.0/24"),
        ("239.194.1.5", "239.194.1.4/30"),
        ("ff15::7:7", "ff15::7:0/112"),
    ],
)
def test_what_takes_the_place_of_an_address_stays_in_its_network(near: str, inside: str) -> None:
    pools = AddressPools(prefixes=("", "239.193.0.0/16", "239.194.1.4/30", "ff15::/16"))
    network, taken = ipaddress.ip_network(inside), {near}
    for _ in range(3):
        given = pools.give(group(), ID, taken, near=near)
        assert ipaddress.ip_address(given) in network and given not in taken
        taken.add(given)
    if network.num_addresses == 4:
        with pytest.raises(Refused, match="no address is left"):
            pools.give(group(), ID, taken, near=near)
