"""Whether there is a querier."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.shell.queries import Queries, queries_heard


@pytest.fixture
def host(laboratory: Laboratory) -> Iterator[Host]:
    """On a bridge that asks each second; as it was afterwards."""
    bridge = ["ip", "link", "set", "br0", "type", "bridge"]
    laboratory.bridge.run([*bridge, "mcast_query_interval", "100"])
    yield laboratory["alpha"]
    laboratory.bridge.run([*bridge, "mcast_query_interval", "12500", "mcast_querier", "1"])


def test_a_querier_is_heard_and_its_absence_too(laboratory: Laboratory, host: Host) -> None:
    querier = ["ip", "link", "set", "br0", "type", "bridge", "mcast_querier"]
    laboratory.bridge.run([*querier, "0"])
    with host.inside():
        assert queries_heard("eth0", 2.0) == Queries(igmp=False, mld=False)
    laboratory.bridge.run([*querier, "1"])
    with host.inside():
        assert queries_heard("eth0", 20.0) == Queries(igmp=True, mld=True)


def test_who_may_not_listen_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("socket.socket", refused)
    assert queries_heard("lo", 1.0) == Queries(None, None)
