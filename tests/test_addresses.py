"""Addresses in their one text form."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsa.addresses import canonical, check_group, is_canonical, is_source_specific
from mcsa.errors import Refused


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("198.18.0.1", "198.18.0.1"),
        ("FD00:0:0::1", "fd00::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("FF15:0:0:0:0:0:8000:1", "ff15::8000:1"),
    ],
)
def test_one_form(text: str, form: str) -> None:
    assert canonical(text) == form
    assert is_canonical(form)
    assert is_canonical(text) == (text == form)


@pytest.mark.parametrize(
    "text", ["", "host", "192.0.2.1/24", "192.0.2.01", "::ffff:192.0.2.1", "::ffff:c000:201", "1::2::3"]
)
def test_what_is_no_address_or_has_two_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|octet|hextet|allowed|inside"):
        canonical(text)
    assert not is_canonical(text)


@given(st.ip_addresses())
def test_the_form_is_stable(address: object) -> None:
    if not str(address).startswith("::ffff:"):
        assert canonical(canonical(str(address))) == canonical(str(address))


@pytest.mark.parametrize("address", ["232.0.0.0", "232.255.255.255", "ff35::1", "ff3e::8000:1", "ff32:0:ffff::1"])
def test_source_specific(address: str) -> None:
    assert is_source_specific(ip_address(address))


@pytest.mark.parametrize("address", ["231.255.255.255", "233.0.0.0", "ff15::1", "ff35:30:2001:db8::1", "fe35::1"])
def test_any_source(address: str) -> None:
    assert not is_source_specific(ip_address(address))


@pytest.mark.parametrize(
    ("group", "sources", "rule"),
    [
        ("host", (), "malformed"),
        ("239.1.1.1", ("host",), "malformed"),
        ("192.0.2.1", (), "RFC 5771"),
        ("2001:db8::1", (), "RFC 4291"),
        ("232.1.1.1", (), "RFC 4607"),
        ("ff3e::8000:1", (), "RFC 4607"),
        ("232.1.1.1", ("2001:db8::1",), "address family"),
        ("ff3e::8000:1", ("192.0.2.1",), "address family"),
    ],
)
def test_what_is_no_group(group: str, sources: tuple[str, ...], rule: str) -> None:
    with pytest.raises(Refused) as refused:
        check_group(group, sources)
    assert refused.value.rule == rule


def test_groups() -> None:
    assert check_group("FF3E:0::8000:1", ("2001:db8::1",)) == "ff3e::8000:1"
    assert check_group("232.1.1.1", sends_only=True) == "232.1.1.1"
    assert check_group("239.1.1.1", ("192.0.2.1",)) == "239.1.1.1"
