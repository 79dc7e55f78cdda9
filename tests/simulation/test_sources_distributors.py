"""Source authentication where members serve joins (`cbt`, `kd`): what proves who said it is the Authorizer's roster,
whoever has told it to a newcomer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mcsa.registration import seal_association
from mcsa.source_authentication import SourceKey
from mcsa.v1.types_pb2 import GroupPolicy, RosterEntry
from services.msm import distributing
from tests.simulation.insider import forge
from tests.simulation.test_branches import Story
from tests.simulation.test_distributors import HOSTS, Distributed, keep_reports_back
from tests.simulation.test_groups import eject, heard
from tests.simulation.test_sources import EACH, words


def talk(domain: Distributed, host: str, said: list[bytes]) -> None:
    for word in said:
        assert domain.msm[host].send(domain.group_id, word)
        domain.network.run_for(0.01)
    domain.network.run_for(1.0)


def counters(domain: Distributed, host: str) -> Mapping[str, int]:
    return domain.msm[host].paths[domain.group_id].counters


def forged(domain: Distributed, insider: str, name: str, payload: bytes) -> None:
    """By an insider, in another's name; with a number of its own, and without a proof that holds."""
    path = domain.msm[insider].paths[domain.group_id]
    sender_id = domain.membership(name).sender_id or 0
    packet = forge(path, domain.world.domain, sender_id, 1_000, payload + bytes(64), domain.description.port)
    domain.network.send(domain.msm[name].address, domain.description.address, packet)
    domain.network.run_for(1.0)


@EACH
@pytest.mark.parametrize("gkm", ["cbt", "kd"])
def test_who_was_welcomed_by_a_member_is_heard_and_hears_as_who_it_is(gkm: str, mode: str):
    domain = Distributed(gkm, source_authentication=mode)
    domain.join("alpha", "beta", "gamma")
    assert sum(domain.served(host) for host in HOSTS) == 2
    for host in ("alpha", "beta", "gamma"):
        talk(domain, host, words(host, 40))
    for host in ("alpha", "beta", "gamma"):
        others = [name for name in ("alpha", "beta", "gamma") if name != host]
        said = words(others[0], 40) + words(others[1], 40)
        assert sorted(heard(domain.msm[host], domain.group_id)) == sorted(said)  # a block's may overtake one another
        assert not [cause for cause in counters(domain, host) if cause.startswith("source-")]
    eject(domain, "carol")
    domain.network.run_for(1.0)
    talk(domain, "alpha", words("after", 40))
    assert sorted(heard(domain.msm["beta"], domain.group_id)[-40:]) == sorted(words("after", 40))


@EACH
def test_an_insider_among_them_is_found(mode: str):
    domain = Distributed(source_authentication=mode)
    domain.join("alpha", "beta", "gamma")
    talk(domain, "alpha", words("alpha", 10))
    forged(domain, "beta", "alpha", b"I never said that")
    talk(domain, "alpha", words("later", 10))
    assert sorted(heard(domain.msm["gamma"], domain.group_id)) == sorted(words("alpha", 10) + words("later", 10))
    assert sum(count for cause, count in counters(domain, "gamma").items() if cause.startswith("source-")) == 1


@EACH
def test_without_the_authorizer_nobody_is_proved_and_with_it_all_are(mode: str):
    domain = Distributed(source_authentication=mode)
    domain.join("alpha", "beta")
    domain.stop_authorizer()
    domain.join("gamma")
    assert domain.served("alpha") + domain.served("beta") == 2
    talk(domain, "alpha", words("alpha", 5))
    assert heard(domain.msm["gamma"], domain.group_id) == []
    assert counters(domain, "gamma")["source-unknown"] >= 1
    domain.start_authorizer(domain.state)
    domain.network.run_for(5.0)
    assert "statement-needed" not in domain.told("gamma")
    talk(domain, "alpha", words("proved", 5))
    talk(domain, "gamma", words("gamma", 5))
    assert sorted(heard(domain.msm["gamma"], domain.group_id)) == sorted(words("proved", 5))
    assert sorted(heard(domain.msm["beta"], domain.group_id)[-5:]) == sorted(words("gamma", 5))


def anothers_key(roster: Any, key: SourceKey) -> None:
    next(entry for entry in roster if entry.host.endswith("/alpha")).source_key = key.public


def another_address(roster: Any, _: SourceKey) -> None:
    next(entry for entry in roster if entry.host.endswith("/alpha")).address = "203.0.113.66"


def another_user(roster: Any, _: SourceKey) -> None:
    next(entry for entry in roster if entry.host.endswith("/alpha")).users[:] = ["spiffe://example.org/user/bob"]


def somebody_else(roster: Any, key: SourceKey) -> None:
    roster.add(sender_id=77, host="spiffe://example.org/host/nobody", address="203.0.113.66", source_key=key.public)


def somebody_less(roster: Any, _: SourceKey) -> None:
    del roster[next(place for place, entry in enumerate(roster) if entry.host.endswith("/alpha"))]


@pytest.mark.parametrize("lie", [anothers_key, another_address, another_user, somebody_else, somebody_less])
@pytest.mark.parametrize("mode", ["none", "signature"])
def test_a_distributor_that_lies_about_the_roster_is_found_by_the_authorizers_next_word(
    lie: Callable[[Any, SourceKey], None], mode: str, monkeypatch: pytest.MonkeyPatch
):
    domain = Distributed(source_authentication=mode)
    domain.join("alpha", "beta")
    domain.msm["alpha"].distributes.clear()
    key = SourceKey()

    def lying(message: Any, request_hash: bytes, shared: bytes, gsa: Any) -> Any:
        lie(gsa.roster, key)
        return seal_association(message, request_hash, shared, gsa)

    monkeypatch.setattr(distributing, "seal_association", lying)
    before = domain.served("beta")
    assert domain.csm["gamma"].join(domain.description, domain.conference_id, "carol").refused is None
    assert domain.served("beta") == before + 1
    path = domain.msm["gamma"].paths[domain.group_id]
    if mode != "none":
        assert not path._roster.source_keys  # nothing that the liar said is used
    domain.network.run_for(1.0)
    assert "statement-needed" in domain.told("gamma")
    assert not path._roster.source_keys
    domain.join("gamma")  # now at the Authorizer
    talk(domain, "alpha", words("alpha", 5))
    assert heard(domain.msm["gamma"], domain.group_id) == words("alpha", 5)
    entry: RosterEntry = domain.membership("gamma").roster[domain.membership("alpha").sender_id or 0]
    assert entry == domain.group.roster[entry.sender_id]


def a_later_epoch(gsa: Any) -> None:
    gsa.epoch += 1_000_000_000


def the_last_epoch(gsa: Any) -> None:
    gsa.epoch = (1 << 64) - 1


def an_earlier_epoch(gsa: Any) -> None:
    gsa.epoch -= 5_000


def a_later_number(gsa: Any) -> None:
    gsa.update_number += 1_000_000_000


def an_earlier_number(gsa: Any) -> None:
    gsa.update_number = 0


@pytest.mark.parametrize(
    "lie",
    [a_later_epoch, the_last_epoch, an_earlier_epoch, a_later_number, an_earlier_number],
    ids=lambda lie: lie.__name__,
)
@pytest.mark.parametrize("gkm", ["cbt", "kd"])
def test_a_distributor_that_lies_about_the_epoch_keeps_nobody_out(
    lie: Callable[[Any], None], gkm: str, monkeypatch: pytest.MonkeyPatch
):
    """What it told doesn't count where the Authorizer says another thing."""
    domain = Distributed(gkm)
    domain.join("alpha", "beta")
    domain.msm["alpha"].distributes.clear()

    def lying(message: Any, request_hash: bytes, shared: bytes, gsa: Any) -> Any:
        lie(gsa)
        return seal_association(message, request_hash, shared, gsa)

    monkeypatch.setattr(distributing, "seal_association", lying)
    before = domain.served("beta")
    assert domain.csm["gamma"].join(domain.description, domain.conference_id, "carol").refused is None
    assert domain.served("beta") == before + 1
    domain.network.run_for(8.0)
    assert "statement-needed" in domain.told("gamma")
    domain.join("gamma")  # now at the Authorizer
    for host, other in (("alpha", "gamma"), ("gamma", "alpha")):
        talk(domain, host, words(host, 5))
        assert heard(domain.msm[other], domain.group_id)[-5:] == words(host, 5)


def test_a_member_that_was_never_reported_believes_no_source():
    domain = Distributed(source_authentication="signature")
    domain.join("alpha")
    keep_reports_back(domain)
    domain.csm["beta"].join(domain.description, domain.conference_id, "bob")
    talk(domain, "alpha", words("alpha", 5))
    assert heard(domain.msm["beta"], domain.group_id) == []


@pytest.mark.parametrize("mode", ["signature", "tree"])
def test_in_two_domains_everybody_is_heard_as_himself(mode: str):
    story = Story(policy=GroupPolicy(gkm="kd", source_authentication=mode)).gathered()
    everybody = [("a", "alpha"), ("a", "amber"), ("b", "beta"), ("b", "gamma")]
    for domain, host in everybody:
        story.say(domain, host, host.encode())
        for other in everybody:
            assert story.heard(*other, host.encode()) == (other != (domain, host)), (host, other)


def test_in_two_domains_there_are_two_clocks_and_so_no_tesla():
    story = Story(policy=GroupPolicy(gkm="kd", source_authentication="tesla"))
    assert story.join("b", "beta", "bob") == "group-policy.source_authentication"
