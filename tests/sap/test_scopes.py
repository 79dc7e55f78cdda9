"""Scopes: where a session is announced."""

from __future__ import annotations

import pytest

from mcsa.sap.scopes import ADDRESSES, GLOBAL, IPV6_ADDRESSES, LINK, LOCAL, ORGANISATION, Scopes


@pytest.mark.parametrize(
    ("group", "name", "address"),
    [
        ("239.255.1.1", "site", LOCAL),
        ("239.195.1.1", "organisation", ORGANISATION),
        ("239.192.0.0", "organisation", ORGANISATION),
        ("239.196.0.0", "global", GLOBAL),
        ("224.2.200.1", "global", GLOBAL),
        ("232.1.1.1", "global", GLOBAL),
        ("239.10.3.1", "239.10.0.0/16", "239.10.255.255"),
        ("239.10.7.1", "239.10.7.0/24", "239.10.7.255"),
        ("239.255.9.9", "239.255.9.0/24", "239.255.9.255"),
        ("ff15::1", "site", "ff05::2:7ffe"),
        ("ff3e::8000:1", "global", "ff0e::2:7ffe"),
        ("ff02::1", "link", "ff02::2:7ffe"),
        ("ff17::1", "scope 7", "ff07::2:7ffe"),
    ],
)
def test_a_session_is_announced_where_its_scope_is(group: str, name: str, address: str):
    scopes = Scopes(["239.10.0.0/16", "239.10.7.0/24", "239.255.9.0/24"])
    assert (scopes.of(group).name, scopes.of(group).address) == (name, address)
    assert scopes.name_of(address) == name


def test_a_directory_listens_to_all_its_scopes():
    assert set(ADDRESSES) == {*Scopes().addresses(), LINK}
    assert "239.10.255.255" in Scopes(["239.10.0.0/16"]).addresses()
    assert "ff05::2:7ffe" in IPV6_ADDRESSES and "ff01::2:7ffe" not in IPV6_ADDRESSES
    assert Scopes().name_of(LINK) == "link" and Scopes().name_of("239.1.2.30") == "239.1.2.30"


@pytest.mark.parametrize("text", ["192.0.2.0/24", "239.10.0.1/16", "somewhere", "224.2.127.255/32", "ff05::/16"])
def test_what_is_no_scope_is_none(text: str):
    with pytest.raises(ValueError):
        Scopes([text])
