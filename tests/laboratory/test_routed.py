"""Two subnets with a multicast router between them."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from mcsa.errors import Refused
from mcsa.laboratory.kind import kind
from mcsa.laboratory.namespaces import Host
from mcsa.laboratory.programs import NAMESPACES
from mcsa.laboratory.routed import RoutedLaboratory
from mcsa.shell.multicast import ESP_PORT, GroupSocket
from tests.judges import lacking, require_program
from tests.laboratory.wire import WAITS_FOR


@pytest.fixture(scope="module")
def routed() -> Iterator[RoutedLaboratory]:
    if kind().name != "namespaces":
        lacking(f"network namespaces: {kind().reason}")
    require_program("smcrouted")
    with RoutedLaboratory(("alpha", "gamma"), ("beta",)) as made:
        yield made


def sender(host: Host, group: str, ttl: int) -> GroupSocket:
    with host.inside():
        return GroupSocket(group, ESP_PORT, host.address_for(group), ttl=ttl, bind_group=False)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("here", "there"), [("alpha", "beta"), ("beta", "alpha")])
def test_a_time_to_live_of_1_ends_at_the_router_and_2_reaches_the_other_subnet(
    routed: RoutedLaboratory, family: int, here: str, there: str
) -> None:
    group = routed.plan.group(1) if family == 4 else routed.plan.group6(1)
    source, hears = routed[here], routed[there]
    with ExitStack() as opened:
        with hears.inside():
            receiver = opened.enter_context(GroupSocket(group, ESP_PORT, hears.address_for(group)))
        routed.await_membership(hears, group)
        near, far = (opened.enter_context(sender(source, group, ttl)) for ttl in (1, 2))
        near.send(b"stays")
        far.send(b"goes")
        near.send(b"stays, too")
        far.send(b"goes, too")
        receiver.socket.settimeout(WAITS_FOR)
        heard = [receiver.socket.recvfrom(100) for _ in range(2)]
        # a router that doesn't know the group yet keeps the first packet, and later ones may overtake it
        assert {payload for payload, _ in heard} == {b"goes", b"goes, too"}
        assert {address[0] for _, address in heard} == {source.address_for(group)}  # nobody translates
        assert not select.select([receiver], [], [], 0)[0]
        assert any(f"({source.address_for(group)},{group})" in line for line in routed.forwarded())


def test_nothing_is_left() -> None:
    if kind().name != "namespaces":
        lacking(f"network namespaces: {kind().reason}")
    require_program("smcrouted")
    with RoutedLaboratory(("alpha",), ("beta",)) as made:
        names = [made.name, made.beyond.name]
        assert all(list(NAMESPACES.glob(f"{name}-*")) for name in names)
    assert not [path for name in names for path in NAMESPACES.glob(f"{name}-*")]


def test_on_loopback_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    made = RoutedLaboratory(("alpha",), ("beta",))
    monkeypatch.setattr(made, "kind", "loopback")
    with pytest.raises(Refused, match="network namespaces"):
        made.create()
