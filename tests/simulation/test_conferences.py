"""Conferences in a simulated domain, step by step as in the paper's section 3.4, in good weather and in bad."""

from __future__ import annotations

import pytest

from tests.simulation.conference import Application, ConferenceDomain

HOSTS = {"alice": "alpha", "bob": "beta", "carol": "gamma"}


def convened(domain: ConferenceDomain, *others: str, ckgds: tuple[str, ...] = ()) -> list[Application]:
    """Alice's conference, with these others in it."""
    alice = domain.application("alpha", "alice")
    conference_id = alice.convene(("bob", "carol"), expected=others, ckgds=ckgds)
    applications = [alice]
    for name in others:
        application = domain.application(HOSTS[name], name)
        application.join(conference_id)
        applications.append(application)
    return applications


def all_hold_one_key(applications: list[Application]) -> bool:
    views = [application.participant.view() for application in applications]
    epochs = {(view.key_epoch, view.key_fingerprint) for view in views}
    names = sorted(str(application.user.id) for application in applications)
    return (
        len(epochs) == 1
        and views[0].key_epoch > 0
        and all(view.state == "active" and sorted(view.participants) == names for view in views)
    )


def run_until_keyed(domain: ConferenceDomain, applications: list[Application], within: float = 10.0) -> None:
    assert domain.network.run_until(lambda: all_hold_one_key(applications), within), [
        (application.participant.view().state, application.participant.view().reason) for application in applications
    ]


@pytest.mark.parametrize("ckgds", ["bd", "central"])
def test_three_users_agree_on_a_key_and_talk(ckgds: str):
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    applications = convened(domain, "bob", "carol", ckgds=(ckgds,))
    run_until_keyed(domain, applications)
    alice, bob, carol = applications
    assert alice.participant.view().ckgds == ckgds
    alice.say(b"welcome")
    bob.say(b"thank you", receipt=True)
    domain.network.run_for(1.0)
    assert ("alice", b"welcome") in bob.heard and ("alice", b"welcome") in carol.heard
    assert ("bob", b"thank you") in alice.heard and ("bob", b"thank you") in carol.heard
