"""Which network a group belongs to: the longest prefix that has its address."""

from __future__ import annotations

import pytest

from mcsa.errors import Refused
from mcsa.networks import DEFAULT, Network, Networks, longest_prefix

CONTROL, MEDIA, STUDIO, IPV6 = "192.0.2.5", "198.51.100.5", "203.0.113.5", "2001:db8::5"
NETWORKS = Networks(
    {
        DEFAULT: Network(CONTROL),
        "239.193.0.0/16": Network(MEDIA),
        "239.193.8.0/24": Network(STUDIO),
        "ff15::/16": Network(f"{IPV6}%eth2"),
        "239.194.0.0/16": Network(""),
    }
)


@pytest.mark.parametrize(
    ("group", "own"),
    [
        ("239.255.1.1", CONTROL),
        ("239.193.1.1", MEDIA),
        ("239.193.8.1", STUDIO),
        ("239.193.9.0", MEDIA),
        ("239.193.255.255", MEDIA),
        ("ff15::1", IPV6),
    ],
)
def test_the_longest_prefix_counts(group: str, own: str) -> None:
    assert NETWORKS.own_address(group) == own


def test_the_order_in_which_prefixes_are_written_means_nothing() -> None:
    prefixes = ["239.0.0.0/8", "239.193.8.0/24", "239.193.0.0/16", "ff00::/8"]
    for some in (prefixes, prefixes[::-1], sorted(prefixes, key=len)):
        assert longest_prefix(some, "239.193.8.8") == "239.193.8.0/24"
    assert longest_prefix(prefixes, "ff15::1") == "ff00::/8"
    assert longest_prefix(prefixes, "232.1.1.1") == DEFAULT


@pytest.mark.parametrize(
    ("group", "way_out"),
    [
        ("239.194.1.1", 'groups = "239.194.0.0/16", address = an IPv4 address'),
        ("ff05::1", 'groups = "ff00::/8", address = an IPv6 address'),
    ],
)
def test_a_group_of_a_network_that_the_host_is_not_in_is_refused_with_the_line_to_write(
    group: str, way_out: str
) -> None:
    with pytest.raises(Refused) as refused:
        NETWORKS.of(group)
    assert refused.value.code == "network" and way_out in refused.value.sentence


def test_a_host_with_one_interface_has_the_default_only() -> None:
    networks = Networks.only(CONTROL)
    assert networks.own_address("239.193.1.1") == networks.default.source == CONTROL
    assert list(networks.joined()) == [DEFAULT]


def test_a_change_touches_one_of_them() -> None:
    changed = NETWORKS.changed("239.193.0.0/16", Network("198.51.100.6", "eth1 is down"))
    assert changed.own_address("239.193.1.1") == "198.51.100.6"
    assert changed.own_address("239.193.8.1") == STUDIO and NETWORKS.own_address("239.193.1.1") == MEDIA
    assert "239.194.0.0/16" not in changed.joined()


@pytest.mark.parametrize("group", ["", "audio", "::ffff:239.1.2.3"])
def test_what_is_no_address_is_refused_and_belongs_to_no_prefix(group: str) -> None:
    with pytest.raises(Refused) as refused:
        NETWORKS.of(group)
    assert refused.value.code == "address"
    assert NETWORKS.name_of(group) == DEFAULT


def test_where_there_is_no_address_yet_the_trouble_is_told() -> None:
    networks = NETWORKS.changed("239.194.0.0/16", Network("", "eth3 has no IPv4 address"))
    with pytest.raises(Refused, match="eth3 has no IPv4 address"):
        networks.of("239.194.1.1")
