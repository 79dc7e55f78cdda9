"""Peer domains in a configuration: what is loaded, and what is refused with the field or file that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcsa.errors import Refused, Rejected
from mcsa.key_files import save_anchors, save_revocation_list
from mcsa.shell.assembly import load_trust
from mcsa.shell.settings import ServiceSettings
from tests.world import NOW, World


class Files:
    """Two domains' anchors and lists in a folder, and the configuration of a service of the first."""

    def __init__(self, folder: Path) -> None:
        self.a, self.b = World("a.example"), World("b.example")
        self.folder = folder
        for world, name in ((self.a, "a"), (self.b, "b")):
            save_anchors(folder / f"{name}.pem", [world.authority.certificate])
            listed = world.authority.revoke([world.user("mallory").certificate.serial_number], NOW)
            save_revocation_list(folder / f"{name}-revoked.pem", listed)

    def peer(self, domain: str = "b.example", anchors: str = "b.pem", **more: str) -> str:
        """As a line of the file."""
        fields = {"domain": domain, "anchors": str(self.folder / anchors)}
        fields |= {name: str(self.folder / value) for name, value in more.items()}
        return "{ " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in fields.items()) + " }"

    def settings(self, *peers: str, **more: str) -> ServiceSettings:
        """As a service loads them."""
        own: dict[str, Any] = {
            "credentials": str(self.folder / "host.pem"),
            "anchors": str(self.folder / "a.pem"),
            "domain": "a.example",
            "nkey": str(self.folder / "nkey"),
            **{name: str(self.folder / value) for name, value in more.items()},
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in own.items()]
        path = self.folder / "service.toml"
        path.write_text("\n".join([*lines, 'bus = ["nats://127.0.0.1:1"]', f"peers = [{', '.join(peers)}]"]))
        return ServiceSettings.load(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def refusal(call: Any, *args: Any, **more: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        call(*args, **more)
    return caught.value


def test_a_peers_anchors_and_revocations_are_loaded(files: Files) -> None:
    trust = load_trust(files.settings(files.peer(revocations="b-revoked.pem"), revocations="a-revoked.pem"))
    assert trust.verify_chain(files.b.user("bob").chain, NOW, peers=True).id.domain == "b.example"
    for world in (files.a, files.b):
        with pytest.raises(Rejected, match="revoked"):
            trust.verify_chain(world.user("mallory").chain, NOW, peers=True)


def test_without_peers_nobody_is_known(files: Files) -> None:
    trust = load_trust(files.settings())
    with pytest.raises(Rejected):
        trust.verify_chain(files.b.user("bob").chain, NOW, peers=True)


def test_peers_by_environment(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = [{"domain": "b.example", "anchors": str(files.folder / "b.pem")}]
    monkeypatch.setenv("MCSA_PEERS", json.dumps(peer))
    assert [peer.domain for peer in files.settings().peers] == ["b.example"]


@pytest.mark.parametrize(
    ("peers", "said"),
    [
        ([{"domain": "a.example"}], "a.example is the own domain"),
        ([{}, {}], "b.example is there twice"),
        ([{"domain": "B.example"}], "'B.example' can't be a domain"),
        ([{"anchor": "b.pem"}], "peers.0.anchor: Extra inputs are not permitted"),
    ],
)
def test_peers_that_can_not_be(files: Files, peers: list[dict[str, str]], said: str) -> None:
    refused = refusal(files.settings, *(files.peer(**peer) for peer in peers))
    assert (refused.code, refused.rule) == ("configuration", "fields")
    assert "peers" in refused.sentence and said in refused.sentence


def test_anchors_that_are_not_there(files: Files) -> None:
    assert (
        "nowhere.pem can't be read" in refusal(load_trust, files.settings(files.peer(anchors="nowhere.pem"))).sentence
    )


def test_our_own_anchors_given_for_a_peer(files: Files) -> None:
    assert refusal(load_trust, files.settings(files.peer(anchors="a.pem"))).rule == "one-domain"


def test_a_revocation_list_of_another_domain(files: Files) -> None:
    refused = refusal(load_trust, files.settings(files.peer(revocations="a-revoked.pem")))
    assert refused.rule == "revocation-list" and "signed by no anchor of b.example" in refused.sentence
    refused = refusal(load_trust, files.settings(files.peer(), revocations="b-revoked.pem"))
    assert "signed by no anchor of a.example" in refused.sentence
