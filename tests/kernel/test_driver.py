"""The `xfrm` driver on a kernel that has IPsec: packets of applications that know nothing of it, and of user space."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcsa.shell.local_frames import connect_frames, parse_incoming
from mcsa.updates import PORT as UPDATE_PORT
from services.msm.events import GroupMessage, PauseSending, ResumeSending, SetRoster, UnknownEpochSeen
from tests.kernel.conftest import MakeGroup
from tests.kernel.hosts import AUTHORIZER, EPOCH, GROUP_ID, NEXT_KEY, PORT, WITHIN, Application, eventually

WIRES = ("udp", "esp")
both_wires = pytest.mark.parametrize("wire", WIRES)


@both_wires
def test_applications_that_know_nothing_talk_from_kernel_to_kernel(make_group: MakeGroup, wire: str) -> None:
    with make_group(wire=wire) as group:
        alpha, beta = group.member("alpha"), group.member("beta")
        for number in range(50):
            alpha.say(b"said %d" % number)
        # In a set: an emulated machine's two processors overtake one another on the way between two hosts.
        assert {beta.hear() for _ in range(50)} == {b"said %d" % number for number in range(50)}
        beta.say(b"and back")
        assert alpha.hear() == b"and back"
        assert (alpha.count("sent"), beta.count("opened")) == (50, 50)


@both_wires
@pytest.mark.parametrize("suite", ["aes-256-gcm", "aes-128-gcm", "chacha20-poly1305"])
def test_the_kernel_and_user_space_open_one_anothers_packets(make_group: MakeGroup, wire: str, suite: str) -> None:
    with make_group(wire=wire, suite=suite) as group:
        alpha, beta = group.member("alpha"), group.member("beta", "relay")
        payloads = {bytes(range(size % 256)) * 2 for size in range(0, 500, 7)}
        for payload in payloads:
            alpha.say(payload)
        assert {beta.hear() for _ in payloads} == payloads
        for payload in payloads:
            beta.say(payload)
        assert {alpha.hear() for _ in payloads} == payloads
        assert (alpha.count("integrity"), beta.count("integrity")) == (0, 0)


@both_wires
def test_so_do_they_over_ipv6(make_group: MakeGroup, wire: str) -> None:
    with make_group(6, wire=wire) as group:
        alpha, beta, gamma = group.member("alpha"), group.member("beta"), group.member("gamma", "relay")
        alpha.say(b"from a kernel")
        assert (beta.hear(), gamma.hear()) == (b"from a kernel", b"from a kernel")
        for payload in (b"from user space", b"", b"odd", bytes(1300)):
            gamma.say(payload)
            assert alpha.hear() == alpha.hear_frame().payload == payload


@both_wires
def test_who_is_at_the_local_socket_talks_with_applications_and_is_told_who_speaks(
    make_group: MakeGroup, wire: str
) -> None:
    with make_group(wire=wire) as group:
        alpha, beta = group.member("alpha"), group.member("beta")
        alpha.say_frame(b"by the local socket")
        heard = beta.hear_frame()
        assert (heard.sender_id, heard.source_port, heard.destination_port) == (alpha.number, PORT, PORT)
        assert heard.payload == beta.hear() == b"by the local socket"
        assert alpha.application is not None
        assert alpha.application.hears_nothing()


def test_who_connects_to_the_local_socket_misses_nothing_from_then_on(make_group: MakeGroup) -> None:
    with make_group() as group:
        alpha, beta = group.member("alpha"), group.member("beta")
        beta.disconnect()
        for number in range(10):
            eventually(lambda: not beta.at_work._hearing._shown[0])  # type: ignore[attr-defined]
            with connect_frames(Path(beta.at_work.socket_path)) as application:
                application.settimeout(WITHIN)
                alpha.say(b"%d" % number)
                assert parse_incoming(application.recv(100)).payload == b"%d" % number


def test_nothing_is_sent_before_the_switch_nor_while_it_is_paused_nor_after_the_end(make_group: MakeGroup) -> None:
    with make_group() as group:
        alpha, beta = group.member("alpha", keyed=False), group.member("beta")
        with pytest.raises(PermissionError):
            alpha.say(b"too early")
        group.key(alpha)
        alpha.say(b"now")
        alpha.control(PauseSending(GROUP_ID))
        with pytest.raises(PermissionError):
            alpha.say(b"paused")
        alpha.say_frame(b"paused too")
        eventually(lambda: alpha.count("unsent.paused") == 1)
        alpha.control(ResumeSending(GROUP_ID))
        alpha.say(b"again")
        assert [beta.hear(), beta.hear()] == [b"now", b"again"]
        lasting = Application(alpha.host, alpha.address, group.description.address)
        alpha.at_work.close()
        with pytest.raises(PermissionError):
            lasting.say(b"the group is closed")
        assert beta.application is not None
        assert beta.application.hears_nothing()
        alpha.close()
        lasting.say(b"the driver is gone: nothing holds this back any more")
        lasting.close()


@both_wires
def test_the_authorizers_updates_come_to_the_core_and_nobody_elses(make_group: MakeGroup, wire: str) -> None:
    with make_group(wire=wire) as group:
        alpha, authorizer = group.member("alpha"), group.association(AUTHORIZER)
        with group.wire_of("infrastructure") as send:
            send(authorizer.seal(b"an update", UPDATE_PORT, UPDATE_PORT))
        eventually(lambda: alpha.told)
        with group.wire_of("gamma") as send:
            send(group.association(3).seal(b"a false one", UPDATE_PORT, UPDATE_PORT))
            send(group.association(3).seal(b"in the Authorizer's name", UPDATE_PORT, UPDATE_PORT))
        assert alpha.application is not None
        with pytest.raises(PermissionError):
            alpha.application.say(b"an application of ours", UPDATE_PORT)
        alpha.say_frame(b"another", UPDATE_PORT)
        eventually(lambda: alpha.count("unsent.port") == 1)
        assert alpha.told == [GroupMessage(GROUP_ID, b"an update")]


@both_wires
def test_a_packet_of_an_epoch_that_is_not_known_is_a_hint_if_its_sender_is(make_group: MakeGroup, wire: str) -> None:
    with make_group(wire=wire) as group:
        alpha = group.member("alpha")
        with group.wire_of("beta") as send:
            send(group.association(2, EPOCH + 7, NEXT_KEY).seal(b"early", PORT, PORT))
        eventually(lambda: UnknownEpochSeen(GROUP_ID) in alpha.told)
        alpha.told.clear()
        with group.wire_of("mallory") as send:
            send(group.association(2, EPOCH + 7, NEXT_KEY).seal(b"from elsewhere", PORT, PORT))
            send(group.association(77, EPOCH + 7, NEXT_KEY).seal(b"of nobody", PORT, PORT))
            send(group.association(2).seal(b"known", PORT, PORT))
        assert alpha.application is not None
        assert alpha.application.hears_nothing()
        assert not alpha.told


def test_who_comes_and_goes_in_the_roster_is_heard_and_no_longer(make_group: MakeGroup) -> None:
    with make_group() as group:
        alpha, beta, gamma = group.member("alpha"), group.member("beta"), group.member("gamma")
        assert alpha.application is not None
        alpha.control(group.roster(alpha, gamma.number))
        gamma.say(b"unheard")
        assert alpha.application.hears_nothing()
        beta.say(b"heard")
        assert alpha.hear() == b"heard"
        alpha.control(group.roster(alpha))
        gamma.say(b"heard again")
        assert alpha.hear() == b"heard again"
        moved = {**group.addresses, gamma.number: group.laboratory["mallory"].address}
        alpha.control(SetRoster(GROUP_ID, moved, alpha.number, AUTHORIZER))
        gamma.say(b"from where it is no longer")
        assert alpha.application.hears_nothing()


@both_wires
@pytest.mark.parametrize("version", [4, 6])
def test_the_control_group_is_not_the_applications(make_group: MakeGroup, wire: str, version: int) -> None:
    with make_group(version, wire=wire) as group:
        group.description.name = "control"
        alpha, beta = group.member("alpha"), group.member("beta")
        alpha.say_frame(b"the CSM")
        heard = beta.hear_frame()
        assert (heard.sender_id, heard.payload) == (alpha.number, b"the CSM")
        with pytest.raises(PermissionError):
            alpha.say(b"an application")
        assert beta.application is not None
        assert beta.application.hears_nothing()
        alpha.control(PauseSending(GROUP_ID))
        alpha.say_frame(b"paused")
        eventually(lambda: alpha.count("unsent.paused") == 1)
        alpha.control(ResumeSending(GROUP_ID))
        alpha.say_frame(b"again")
        assert beta.hear_frame().payload == b"again"


@both_wires
def test_a_source_specific_group_hears_its_source(make_group: MakeGroup, wire: str) -> None:
    with make_group(wire=wire) as group:
        group.description.address = "232.77.1.2" if wire == "udp" else "232.77.1.3"
        group.description.sources.append(group.laboratory["alpha"].address)
        alpha, beta = group.member("alpha"), group.member("beta")
        alpha.say_frame(b"the only source")
        assert beta.hear_frame().payload == b"the only source"
        with group.wire_of("gamma") as send:
            send(group.association(3).seal(b"a member, and no source", PORT, PORT))
        alpha.say_frame(b"after")
        assert beta.hear_frame().payload == b"after"
