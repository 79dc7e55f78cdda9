"""The networks in a service's configuration: what is wrong there is said with the way out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcsa.errors import Refused
from mcsa.networks import DEFAULT
from mcsa.shell.network_settings import NetworkedSettings

KNOWN = """
domain = "example.org"
credentials = "host.pem"
anchors = "anchors.pem"
bus = ["nats://127.0.0.1:4222"]
nkey = "host.nkey"
"""


def load(tmp_path: Path, *networks: tuple[str, str], address: str = "192.0.2.5") -> NetworkedSettings:
    """As an operator writes them: groups and address."""
    lines = [f'[[networks]]\ngroups = "{groups}"\naddress = "{own}"\n' for groups, own in networks]
    path = tmp_path / "service.toml"
    path.write_text(f'{KNOWN}address = "{address}"\n' + "".join(lines))
    return NetworkedSettings.load(path)


def test_each_network_has_an_address_or_an_interface_of_the_family_of_its_groups(tmp_path: Path) -> None:
    settings = load(
        tmp_path, ("239.193.0.0/16", "10.2.0.5"), ("239.194.0.0/16", "eth1"), ("FF15::/16", "eth1"), ("ff05::/16", "")
    )
    assert settings.own == {
        DEFAULT: "192.0.2.5",
        "239.193.0.0/16": "10.2.0.5",
        "239.194.0.0/16": "eth1 ipv4",
        "ff15::/16": "eth1 ipv6",
        "ff05::/16": "",
    }


def test_one_interface_is_the_list_with_the_default_only(tmp_path: Path) -> None:
    assert load(tmp_path, address="eth0 ipv6").own == {DEFAULT: "eth0 ipv6"}


def test_a_longer_prefix_may_be_inside_a_shorter_one(tmp_path: Path) -> None:
    assert len(load(tmp_path, ("239.193.0.0/16", "10.2.0.5"), ("239.193.8.0/24", "10.3.0.5")).own) == 3


@pytest.mark.parametrize(
    ("networks", "sentence"),
    [
        ([("10.2.0.0/16", "10.2.0.5")], "no prefix of multicast addresses: choose one in 224.0.0.0/4"),
        ([("224.0.0.0/3", "10.2.0.5")], "no prefix of multicast addresses"),
        ([("2001:db8::/32", "2001:db8::5")], "choose one in ff00::/8"),
        ([("239.193.7.7/16", "10.2.0.5")], "has host bits set: write a prefix"),
        ([("media", "10.2.0.5")], "write a prefix of multicast addresses"),
        ([("239.193.0.0/16", "10.2.0.5"), ("239.193.0.0/16", "10.3.0.5")], "239.193.0.0/16 is there twice: leave one"),
        ([("ff15::/16", "10.2.0.5")], "10.2.0.5 is of the other family than ff15::/16: say an IPv6 address"),
        ([("239.193.0.0/16", "2001:db8::5")], "say an IPv4 address"),
        ([("239.193.0.0/16", "eth1 ipv6")], "eth1 ipv6 is of the other family"),
    ],
)
def test_what_is_wrong_is_said_with_the_way_out(tmp_path: Path, networks: list[tuple[str, str]], sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        load(tmp_path, *networks)
    assert sentence in refused.value.sentence


def test_a_service_has_an_address(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="address"):
        load(tmp_path, address="")


def test_the_environment_may_say_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCSA_NETWORKS", json.dumps([{"groups": "239.193.0.0/16", "address": "10.2.0.5"}]))
    assert load(tmp_path).own["239.193.0.0/16"] == "10.2.0.5"
