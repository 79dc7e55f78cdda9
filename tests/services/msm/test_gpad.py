"""Whose keys a host takes, and whom it asks for them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mcsa.errors import Refused
from services.msm.config import MsmSettings
from services.msm.gpad import Accepted, Gpad

A, OTHER_A = "spiffe://a.example/authorizer/main", "spiffe://a.example/authorizer/other"
Y = "spiffe://b.example/authorizer/main"
LINES = [
    Accepted("spiffe://a.example/authorizer/*", "239.1.0.0/16", Y),
    Accepted("spiffe://b.example/authorizer/*", "239.0.0.0/8"),
]


def refused(gpad: Gpad, authorizer: str, *addresses: str) -> Refused:
    with pytest.raises(Refused) as caught:
        gpad.serving_all(authorizer, addresses)
    return caught.value


def test_who_serves_is_the_line_s_word() -> None:
    gpad = Gpad(LINES)
    assert gpad.serving(A, "239.1.2.3") == gpad.serving(OTHER_A, "239.1.2.3") == Y
    assert gpad.serving(A) == Y
    assert gpad.serving(Y, "239.1.2.3") == gpad.serving(Y) == Y
    assert Gpad(LINES[1:]).serving(Y, "239.255.0.1") == Y


@pytest.mark.parametrize(
    "address", ["ff15::1%eth0", "ff15::1%x }; flush ruleset", "FF15::1", "ff15:0::1", "::ffff:239.1.2.3", "239.1.2"]
)
def test_an_address_that_is_not_in_its_one_text_form_is_no_group_s(address: str) -> None:
    """Python takes most of them for addresses; what comes after would be compared, or handed to programs, as text."""
    gpad = Gpad([Accepted("*", "::/0"), Accepted("*", "0.0.0.0/0")])
    assert gpad.serving(A, "ff15::1") == A
    assert refused(gpad, A, address).code == "address"


def test_what_no_line_is_about_is_not_accepted() -> None:
    gpad = Gpad(LINES)
    assert refused(gpad, A, "239.2.0.1").rule == "gpad"  # B's line is for any network, and not about A
    assert refused(gpad, "spiffe://c.example/authorizer/main", "239.1.2.3").rule == "gpad"
    for nobody in ("", "main", "spiffe://a.example/authorizer/a/b", "spiffe://a.example/host/main"):
        assert refused(Gpad([Accepted("*", "0.0.0.0/0")]), nobody, "239.1.2.3").rule == "gpad"
    assert refused(gpad, A, "here").code == "address"


def test_the_first_line_that_fits_counts() -> None:
    gpad = Gpad([Accepted(OTHER_A, "239.0.0.0/8"), *LINES])
    assert gpad.serving(OTHER_A, "239.1.2.3") == OTHER_A
    assert gpad.serving(A, "239.1.2.3") == Y


def test_one_authorizer_serves_all_groups_of_a_conference() -> None:
    gpad = Gpad([Accepted(A, "239.1.0.0/16", Y), Accepted(A, "239.0.0.0/8")])
    assert gpad.serving_all(A, ["239.1.0.1", "239.1.0.2"]) == Y
    assert gpad.serving_all(A, []) == Y
    assert "would be served by" in refused(gpad, A, "239.1.0.1", "239.2.0.1").sentence


def settings(**line: str) -> MsmSettings:
    fields: dict[str, Any] = {"credentials": "c", "anchors": "a", "nkey": "n", "bus": ["nats://x"], "sockets": "s"}
    fields |= {"domain": "b.example", "address": "127.0.0.1", "directory": "d"}
    fields["peers"] = [{"domain": "a.example", "anchors": "a.pem"}]
    fields["accepts"] = [{"authorizer": "spiffe://a.example/authorizer/*", **line}]
    return MsmSettings(**fields)


def test_a_configuration_with_a_subordinate() -> None:
    (line,) = settings(through=Y).accepts
    assert (line.through, line.network) == (Y, "239.0.0.0/8")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"through": A}, "has to be an Authorizer of the own domain"),
        ({"through": "spiffe://b.example/host/main"}, "has to be an Authorizer of the own domain"),
        ({}, "takes no hosts of this domain in"),
        ({"through": Y, "network": "239.1.0.0/33"}, "does not appear to be an IPv4 or IPv6 network"),
    ],
)
def test_lines_that_can_not_work(line: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(**line)
