"""What the kernel says of the way to a group."""

from __future__ import annotations

import pytest

from mcsa.laboratory.namespaces import Laboratory
from mcsa.shell.path_mtu import path_mtu


@pytest.mark.parametrize(("group", "gone"), [("239.1.1.1", "198.51.100.7"), ("ff15::1:1", "2001:db8::7")])
def test_it_is_that_of_the_interface_and_none_where_there_is_none(
    laboratory: Laboratory, group: str, gone: str
) -> None:
    alpha = laboratory["alpha"]
    with alpha.inside():
        assert path_mtu(group, alpha.address_for(group)) == 1_500
        assert path_mtu(group, gone) == 0
