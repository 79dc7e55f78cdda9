"""The `xfrm` driver on a host whose network changes: down and up, and another address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mcsa.laboratory.namespaces import Host
from mcsa.networks import Networks
from mcsa.updates import PORT as UPDATE_PORT
from services.msm.events import GroupMessage, PauseSending, SetRoster, SwitchSending
from tests.kernel.conftest import MakeGroup
from tests.kernel.hosts import AUTHORIZER, EPOCH, GROUP_ID, Application, Group, Member, address_on, eventually

AGAIN = 12  # the sender ID that beta registers under anew

everywhere = pytest.mark.parametrize(("version", "wire"), [(4, "udp"), (4, "esp"), (6, "udp")])


def ip(host: Host, command: str) -> None:
    host.run(["ip", *command.split()])


def moved(member: Member, address: str) -> list[str]:
    """Tells the driver; what it complained of so far."""
    complaints: list[str] = []
    with member.host.inside():
        member.driver.move(Networks.only(address))
        member.at_work.move(address, lambda refused: complaints.append(refused.sentence))
    member.control()
    return complaints


def all_pass(one: Member, other: Member) -> None:
    """Both ways, by applications and by the local sockets."""
    for speaks, hears in ((one, other), (other, one)):
        speaks.say(b"by an application of " + speaks.name.encode())
        assert hears.hear() == hears.hear_frame().payload == b"by an application of " + speaks.name.encode()
        speaks.say_frame(b"by the local socket of " + speaks.name.encode())
        assert hears.hear() == hears.hear_frame().payload == b"by the local socket of " + speaks.name.encode()


@contextmanager
def another_address(group: Group, host: Host) -> Iterator[str]:
    """A host's, instead of the one that it has."""
    plan, six = group.laboratory.plan, group.version == 6
    network, options = (plan.network6, " nodad") if six else (plan.network, "")
    old, new = address_on(host, group.description.address), str(network[200])

    def replace(one: str, other: str) -> None:
        ip(host, f"address delete {one}/{network.prefixlen} dev {host.interface}")
        ip(host, f"address add {other}/{network.prefixlen} dev {host.interface}{options}")

    replace(old, new)
    try:
        yield new
    finally:
        replace(new, old)


@everywhere
def test_after_down_and_up_all_goes_on_under_the_same_numbers(make_group: MakeGroup, version: int, wire: str) -> None:
    with make_group(version, wire=wire) as group:
        alpha, beta = group.member("alpha"), group.member("beta")
        all_pass(alpha, beta)
        for way in ("down", "up"):
            ip(beta.host, f"link set {beta.host.interface} {way}")
        # The kernel takes addresses of IPv6 off an interface that goes down.
        ip(beta.host, f"address add {beta.host.address6}/64 dev {beta.host.interface} nodad")
        assert not moved(beta, beta.address)
        group.laboratory.await_membership(beta.host, group.description.address)
        all_pass(alpha, beta)
        assert beta.count("sent") == 4
        with group.wire_of("infrastructure") as send:
            send(group.association(AUTHORIZER).seal(b"an update", UPDATE_PORT, UPDATE_PORT))
        eventually(lambda: GroupMessage(GROUP_ID, b"an update") in beta.told)


@everywhere
def test_under_another_address_nothing_is_sent_until_it_has_registered_again(
    make_group: MakeGroup, version: int, wire: str
) -> None:
    with make_group(version, wire=wire) as group:
        alpha, beta = group.member("alpha"), group.member("beta")
        all_pass(alpha, beta)
        with another_address(group, beta.host) as address:
            assert beta.application is not None
            beta.application.close()
            beta.control(PauseSending(GROUP_ID))  # the core, at once
            assert not moved(beta, address)
            beta.application = Application(beta.host, address, group.description.address)
            with pytest.raises(PermissionError):
                beta.say(b"as nobody")
            group.laboratory.await_membership(beta.host, group.description.address)
            alpha.say(b"it hears at once")
            assert beta.hear() == beta.hear_frame().payload == b"it hears at once"
            del group.addresses[beta.number]
            group.addresses[AGAIN] = address
            alpha.control(group.roster(alpha))
            beta.control(SetRoster(GROUP_ID, group.addresses, AGAIN, AUTHORIZER))
            beta.control(SwitchSending(GROUP_ID, EPOCH, AGAIN))
            all_pass(alpha, beta)
            beta.say_frame(b"as whom")
            assert alpha.hear_frame().sender_id == AGAIN
            assert alpha.hear() == b"as whom"


def test_without_a_network_it_says_so_and_goes_on_with_the_next_one(make_group: MakeGroup) -> None:
    with make_group() as group:
        alpha, beta = group.member("alpha"), group.member("beta")
        complaints = moved(beta, "198.51.100.7")
        eventually(lambda: complaints)
        assert "no interface of this host has that address" in complaints[0]
        beta.say_frame(b"into the void")
        eventually(lambda: beta.count("unsent.network") == 1)
        beta.control(group.roster(beta))  # what the core decides meanwhile is carried out
        assert not moved(beta, beta.address)
        group.laboratory.await_membership(beta.host, group.description.address)
        all_pass(alpha, beta)
        moved(beta, "198.51.100.7")  # and ends without one
