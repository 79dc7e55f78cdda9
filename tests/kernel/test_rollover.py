"""Keys that change while packets flow, members that go, and an MSM that dies."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address

import pytest

from mcsa.errors import Refused
from mcsa.networks import Networks
from mcsa.shell.netlink import KernelIpsec
from mcsa.xfrm.operations import RenewState
from mcsa.xfrm.state import StateReport
from services.msm.drivers import DriverSettings, driver_named
from services.msm.drivers.xfrm import REQIDS
from services.msm.events import InstallEpoch, SequenceLow, SetRoster, SwitchSending
from tests.kernel.conftest import MakeGroup
from tests.kernel.hosts import (
    AUTHORIZER,
    EPOCH,
    GROUP_ID,
    KEY,
    NEXT_KEY,
    Member,
    drop,
    eventually,
)

both_wires = pytest.mark.parametrize("wire", ["udp", "esp"])
THIRD_KEY = type(KEY)(b"\2" * 32)


@both_wires
def test_a_rollover_loses_nothing_while_packets_flow(make_group: MakeGroup, wire: str) -> None:
    with make_group(wire=wire) as group:
        alpha, beta, gamma = group.member("alpha"), group.member("beta"), group.member("gamma", "relay")
        sent, going = 0, True

        def talk() -> None:
            nonlocal sent
            while going:
                alpha.say(b"%d" % sent)
                sent += 1
                time.sleep(0.002)

        talking = threading.Thread(target=talk)
        talking.start()
        for epoch, key in ((EPOCH + 1, NEXT_KEY), (EPOCH + 2, THIRD_KEY)):
            for member in (alpha, beta, gamma):
                member.control(InstallEpoch(GROUP_ID, epoch, key))
            time.sleep(0.2)
            alpha.control(SwitchSending(GROUP_ID, epoch, alpha.number))
            time.sleep(0.5)
            for member in (alpha, beta, gamma):
                member.control(drop(epoch - 1))
        going = False
        talking.join()
        print(f"{sent} packets through two rollovers")
        assert sent > 50
        wanted = {b"%d" % number for number in range(sent)}
        assert {beta.hear() for _ in wanted} == wanted
        assert {gamma.hear() for _ in wanted} == wanted
        assert beta.count("opened") == alpha.count("sent") == sent
        assert {state.spi >> 20 for state in _states(alpha)} == {(EPOCH + 2) % 4095 + 1}


def _states(member: Member) -> list[StateReport]:
    with member.host.inside(), KernelIpsec() as ipsec:
        return ipsec.states()


def test_who_was_thrown_out_hears_nothing_and_is_not_heard(make_group: MakeGroup) -> None:
    with make_group() as group:
        alpha, beta, gamma = group.member("alpha"), group.member("beta"), group.member("gamma")
        for member in (alpha, gamma):
            member.control(InstallEpoch(GROUP_ID, EPOCH + 1, NEXT_KEY), group.roster(member, beta.number))
            member.control(SwitchSending(GROUP_ID, EPOCH + 1, member.number), drop(EPOCH))
        alpha.say(b"not for beta")
        assert gamma.hear() == b"not for beta"
        assert beta.application is not None
        assert gamma.application is not None
        assert beta.application.hears_nothing()
        beta.say(b"still here")
        assert gamma.application.hears_nothing()
        assert beta.told  # it is told that there is an epoch that it doesn't have


def test_an_msm_that_died_soon_sends_no_more_and_its_successor_takes_over(
    make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_group(beacon_ms=100, beacon_silence_ms=300) as group:
        alpha, beta = group.member("alpha"), group.member("beta")
        monkeypatch.setattr("services.msm.kernel_group.KernelGroup._run", lambda self: None)
        # alpha's thread is stopped as if the process had died: nobody renews, nothing is cleaned up
        alpha.at_work._closing = True  # type: ignore[attr-defined]
        alpha.at_work._wake()  # type: ignore[attr-defined]
        alpha.say(b"for a moment it goes on")
        assert beta.hear() == b"for a moment it goes on"
        time.sleep(12.0)  # as long as a state that sends lives here
        alpha.say(b"and no longer")  # the kernel takes it, and has no state for it
        assert beta.application is not None
        assert beta.application.hears_nothing()
        with alpha.host.inside():
            with pytest.raises(Refused, match="stop it first"):
                driver_named("xfrm")(DriverSettings(Networks.only(alpha.address), group.folder))
            alpha.driver._lock.close()  # type: ignore[attr-defined]
            successor = driver_named("xfrm")(DriverSettings(Networks.only(alpha.address), group.folder))
        assert not _states(alpha)
        alpha.say(b"the policies are still there")
        assert beta.application.hears_nothing()
        successor.close()


def test_what_was_open_when_an_msm_was_ended_is_not_in_the_clear(make_group: MakeGroup) -> None:
    with make_group() as group:
        alpha, beta = group.member("alpha"), group.member("beta")
        alpha.say(b"sealed")
        assert beta.hear() == b"sealed"
        with alpha.host.inside():
            alpha.at_work.close()
            alpha.driver.close([group.description.address])
        with suppress(OSError):  # the kernel may say that it is blocked
            alpha.say(b"the policies are still there")
        assert beta.application is not None
        assert beta.application.hears_nothing()
        with alpha.host.inside():
            driver_named("xfrm")(DriverSettings(Networks.only(alpha.address), group.folder)).close()
            with KernelIpsec() as ipsec:
                assert not [each for each in ipsec.policies() if each.reqid in REQIDS]
        alpha.is_closed = True  # but for what its application has
        alpha.disconnect()
        assert alpha.application is not None
        alpha.application.close()


def test_a_state_that_is_renewed_lives_on_with_its_numbers(make_group: MakeGroup) -> None:
    with make_group() as group:
        alpha, beta = group.member("alpha"), group.member("beta")
        for number in range(5):
            alpha.say(b"%d" % number)
            assert beta.hear() == b"%d" % number
        table = alpha.at_work._table  # type: ignore[attr-defined]
        with alpha.host.inside(), KernelIpsec() as ipsec:
            for seconds in (2, 30):
                assert not ipsec.carry_out([RenewState(replace(table.sending, lives_for=seconds))])
            time.sleep(3.0)
            alpha.say(b"after")
            assert beta.hear() == b"after"
            [report] = [state for state in ipsec.states() if state.reqid == table.reqids.sending]
            assert (report.packets, report.sent) == (6, 6)


def test_what_somebody_flushed_is_put_back_but_for_the_state_that_sends(make_group: MakeGroup) -> None:
    with make_group() as group:
        alpha, beta = group.member("alpha"), group.member("beta")
        policies = alpha.host.run(["ip", "xfrm", "policy", "count"])
        for what in ("state", "policy"):
            alpha.host.run(["ip", "xfrm", what, "flush"])
        alpha.at_work._renew_at = 0.0  # type: ignore[attr-defined]
        alpha.at_work._wake()  # type: ignore[attr-defined]
        eventually(lambda: SequenceLow(GROUP_ID) in alpha.told)  # it registers anew, for fresh numbers
        assert alpha.host.run(["ip", "xfrm", "policy", "count"]) == policies
        assert alpha.application is not None
        with pytest.raises(PermissionError):
            alpha.say(b"under numbers that were used before")
        eventually(lambda: len(_states(alpha)) == 3)
        beta.say(b"heard again")
        assert alpha.hear() == b"heard again"


def test_a_state_that_expires_while_it_sends_is_told_and_never_comes_back(make_group: MakeGroup) -> None:
    with make_group() as group:
        alpha = group.member("alpha")
        table = alpha.at_work._table  # type: ignore[attr-defined]
        with alpha.host.inside(), KernelIpsec() as ipsec:
            assert not ipsec.carry_out([RenewState(replace(table.sending, lives_for=1))])
        eventually(lambda: SequenceLow(GROUP_ID) in alpha.told)
        with pytest.raises(PermissionError):
            alpha.say(b"under no state")
        assert len(_states(alpha)) == 3
        with pytest.raises(ValueError, match="once"):
            table.control(SwitchSending(GROUP_ID, EPOCH, alpha.number), time.time())


def test_sequence_numbers_that_run_out_are_told_in_time(make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.msm.kernel_table.NEARLY_EXHAUSTED_AT", 5)
    with make_group() as group:
        alpha = group.member("alpha")
        for number in range(4):
            alpha.say(b"%d" % number)
        time.sleep(0.5)
        assert not alpha.told
        for number in range(4):
            alpha.say(b"%d" % number)
        eventually(lambda: SequenceLow(GROUP_ID) in alpha.told)


def test_a_thousand_senders(make_group: MakeGroup) -> None:
    with make_group() as group:
        alpha, beta = group.member("alpha"), group.member("beta")
        network = ip_address("10.77.0.0")
        many = {100 + number: str(network + number) for number in range(1, 1001)}
        began = time.monotonic()
        alpha.control(SetRoster(GROUP_ID, {**group.addresses, **many}, alpha.number, AUTHORIZER))
        eventually(lambda: len(_states(alpha)) == 1000 + 4)
        print(f"1,000 senders' states in {time.monotonic() - began:.1f} s, in an emulated machine")
        beta.say(b"still heard")
        assert alpha.hear() == b"still heard"
        alpha.control(group.roster(alpha))
        eventually(lambda: len(_states(alpha)) == 4)


def test_the_driver_says_what_it_can_not_do(make_group: MakeGroup) -> None:
    with make_group() as group:
        alpha = group.member("alpha")
        with pytest.raises(Refused, match="relays nothing"):
            alpha.at_work.engine  # noqa: B018
        with alpha.host.inside(), pytest.raises(Refused, match="loopback"):
            driver_named("xfrm")(DriverSettings(Networks.only("127.0.0.1"), group.folder))
