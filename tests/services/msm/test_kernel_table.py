"""Which states and policies the kernel gets, against a model of its tables that refuses what the kernel refuses."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsa.errors import Refused
from mcsa.esp.spi import epoch_tag, spi_for
from mcsa.keys import GroupKey
from mcsa.path_control import DropEpoch, InstallEpoch, PauseSending, ResumeSending, SetRoster, SwitchSending
from mcsa.policy import complete_policy
from mcsa.updates import PORT as UPDATE_PORT
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from mcsa.xfrm.operations import RenewState, SetPolicy
from mcsa.xfrm.policy import Template
from services.msm.kernel_table import KernelTable
from tests.services.msm.kernel_model import REQIDS, Kernel

GROUP_ID, EPOCH, NOW = bytes(16), 1_800_000_000_000, 1_700_000_000.0
OWN, OWN_ADDRESS, AUTHORIZER = 1, "10.0.0.1", 9
ROSTER = {OWN: OWN_ADDRESS, 2: "10.0.0.2", 3: "10.0.0.3", AUTHORIZER: "10.0.0.9"}


def described(**policy: Any) -> GroupDescription:
    complete = complete_policy(GroupPolicy(**policy))
    return GroupDescription(group_id=GROUP_ID, name="audio", address="239.255.0.7", policy=complete)


def key(epoch: int) -> GroupKey:
    return GroupKey(epoch.to_bytes(32, "big"))


def opened(**policy: Any) -> tuple[KernelTable, Kernel]:
    table, kernel = KernelTable("example.org", described(**policy), OWN_ADDRESS, REQIDS), Kernel()
    kernel.carry_out(table.opening())
    return table, kernel


def install(epoch: int) -> InstallEpoch:
    return InstallEpoch(GROUP_ID, epoch, key(epoch))


def roster(*without: int, own: int | None = OWN) -> SetRoster:
    addresses = {number: address for number, address in ROSTER.items() if number not in without}
    return SetRoster(GROUP_ID, addresses, own, AUTHORIZER)


def heard(epoch: int, *senders: int) -> set[tuple[int, str]]:
    return {(spi_for(epoch, sender), ROSTER[sender]) for sender in senders}


def test_before_there_is_a_key_nothing_passes_in_either_direction() -> None:
    _, kernel = opened()
    assert kernel.sends_under is None
    assert not kernel.states
    inward = {p.selector.destination_port: p for p in kernel.policies.values() if p.direction == "in"}
    assert inward[None].template == Template(REQIDS.receiving, may_be_left_out=False)
    assert inward[4500].priority < inward[None].priority  # the ESP itself, which is UDP too
    assert set(inward) == {None, 4500}


def test_nobody_here_speaks_where_members_believe_the_authorizer_does() -> None:
    _, kernel = opened()
    [at_port] = [p for p in kernel.policies.values() if p.selector.destination_port == UPDATE_PORT]
    [anywhere] = [p for p in kernel.policies.values() if p.direction == "out" and p is not at_port]
    assert (at_port.direction, at_port.blocks) == ("out", True)
    assert at_port.priority < anywhere.priority


def test_as_ip_protocol_50_no_udp_comes_in_as_it_is() -> None:
    table, kernel = opened(wire="udp")
    kernel.carry_out(table.closing())
    again = KernelTable("example.org", described(wire="esp"), OWN_ADDRESS, REQIDS)
    kernel.carry_out(again.opening())
    assert [p.selector.destination_port for p in kernel.policies.values() if p.direction == "in"] == [None]
    kernel.carry_out([*again.control(roster(), NOW), *again.control(install(EPOCH), NOW)])
    assert not any(state.in_udp for state in kernel.states.values())


def test_all_senders_but_this_host_are_heard_each_from_its_address() -> None:
    table, kernel = opened()
    kernel.carry_out(table.control(install(EPOCH), NOW))
    assert not kernel.hears
    kernel.carry_out(table.control(roster(), NOW))
    assert kernel.hears == heard(EPOCH, 2, 3, AUTHORIZER)
    kernel.carry_out(table.control(roster(3), NOW))
    assert kernel.hears == heard(EPOCH, 2, AUTHORIZER)
    moved = SetRoster(GROUP_ID, {**ROSTER, 2: "10.0.0.77"}, OWN, AUTHORIZER)
    kernel.carry_out(table.control(moved, NOW))
    assert (spi_for(EPOCH, 2), "10.0.0.77") in kernel.hears
    assert (spi_for(EPOCH, 2), "10.0.0.2") not in kernel.hears


def test_an_address_that_is_none_or_of_the_other_family_is_not_heard() -> None:
    table, kernel = opened()
    kernel.carry_out(table.control(install(EPOCH), NOW))
    strange = SetRoster(GROUP_ID, {2: "10.0.0.2", 3: "fd00::3", 4: "nowhere"}, OWN, AUTHORIZER)
    kernel.carry_out(table.control(strange, NOW))
    assert kernel.hears == heard(EPOCH, 2)


def test_under_another_address_others_are_heard_on_and_a_new_state_sends() -> None:
    table, kernel = opened()
    for effect in (install(EPOCH), roster(), SwitchSending(GROUP_ID, EPOCH, OWN), PauseSending(GROUP_ID)):
        kernel.carry_out(table.control(effect, NOW))
    before = kernel.hears
    table.move("10.0.0.77")
    assert (kernel.hears, kernel.sends_under) == (before, None)
    again = SetRoster(GROUP_ID, {**ROSTER, 12: "10.0.0.77"}, 12, AUTHORIZER)
    for effect in (again, SwitchSending(GROUP_ID, EPOCH, 12)):
        kernel.carry_out(table.control(effect, NOW))
    assert table.sending is not None
    assert (str(table.sending.source), table.sending.spi) == ("10.0.0.77", spi_for(EPOCH, 12))


def test_a_rollover_installs_before_it_switches_and_drops_last() -> None:
    table, kernel = opened()
    for effect in (install(EPOCH), roster(), SwitchSending(GROUP_ID, EPOCH, OWN), install(EPOCH + 1)):
        kernel.carry_out(table.control(effect, NOW))
    assert kernel.sends_under == spi_for(EPOCH, OWN)
    assert kernel.hears == heard(EPOCH, 2, 3, AUTHORIZER) | heard(EPOCH + 1, 2, 3, AUTHORIZER)
    kernel.carry_out(table.control(SwitchSending(GROUP_ID, EPOCH + 1, OWN), NOW))
    assert kernel.sends_under == spi_for(EPOCH + 1, OWN)
    assert spi_for(EPOCH, OWN) in {state.spi for state in kernel.states.values()}  # packets may be under way in it
    kernel.carry_out(table.control(DropEpoch(GROUP_ID, EPOCH), NOW))
    assert kernel.hears == heard(EPOCH + 1, 2, 3, AUTHORIZER)
    assert {state.spi >> 20 for state in kernel.states.values()} == {epoch_tag(EPOCH + 1)}
    assert table.tags == {epoch_tag(EPOCH + 1)}


def test_a_pause_blocks_and_what_comes_after_it_opens_again() -> None:
    table, kernel = opened()
    for effect in (install(EPOCH), roster(), SwitchSending(GROUP_ID, EPOCH, OWN), PauseSending(GROUP_ID)):
        kernel.carry_out(table.control(effect, NOW))
    assert kernel.sends_under is None
    kernel.carry_out(table.control(ResumeSending(GROUP_ID), NOW))
    assert kernel.sends_under == spi_for(EPOCH, OWN)
    for effect in (PauseSending(GROUP_ID), install(EPOCH + 1), SwitchSending(GROUP_ID, EPOCH + 1, OWN)):
        kernel.carry_out(table.control(effect, NOW))
    assert kernel.sends_under == spi_for(EPOCH + 1, OWN)


def test_dropping_the_epoch_that_is_sent_under_blocks() -> None:
    table, kernel = opened()
    for effect in (install(EPOCH), SwitchSending(GROUP_ID, EPOCH, OWN), DropEpoch(GROUP_ID, EPOCH)):
        kernel.carry_out(table.control(effect, NOW))
    assert kernel.sends_under is None
    assert not kernel.states
    kernel.carry_out(table.control(ResumeSending(GROUP_ID), NOW))
    assert kernel.sends_under is None


def test_an_association_that_sends_is_installed_once_never_again() -> None:
    table, kernel = opened()
    for effect in (install(EPOCH), SwitchSending(GROUP_ID, EPOCH, OWN)):
        kernel.carry_out(table.control(effect, NOW))
    with pytest.raises(ValueError, match="once"):
        table.control(SwitchSending(GROUP_ID, EPOCH, OWN), NOW)


def test_after_the_end_everything_is_blocked() -> None:
    table, kernel = opened()
    for effect in (install(EPOCH), roster(), SwitchSending(GROUP_ID, EPOCH, OWN)):
        kernel.carry_out(table.control(effect, NOW))
    kernel.carry_out(table.closing())
    assert not kernel.states
    assert kernel.sends_under is None
    assert [p for p in kernel.policies.values() if p.direction == "in" and p.template]


def test_states_live_on_only_if_they_are_renewed() -> None:
    table, kernel = opened(beacon_silence_ms=15_000)
    for effect in (install(EPOCH), roster(), SwitchSending(GROUP_ID, EPOCH, OWN)):
        kernel.carry_out(table.control(effect, NOW))
    lives = {state.reqid: state.lives_for for state in kernel.states.values()}
    assert lives == {REQIDS.sending: 30, REQIDS.receiving: 600}
    assert table.renew_each == 10
    assert opened(beacon_silence_ms=600_000)[0].renew_each == 10
    renewed = table.renewing(NOW + 25)
    kernel.carry_out(renewed)
    assert [op.policy for op in renewed if isinstance(op, SetPolicy)] == list(kernel.policies.values())
    longer = {op.state.reqid: op.state.lives_for for op in renewed if isinstance(op, RenewState)}
    assert longer == {REQIDS.sending: 55, REQIDS.receiving: 625}  # since they were made, as the kernel counts
    assert len(longer) == 2
    assert len([op for op in renewed if isinstance(op, RenewState)]) == 4


def test_what_expired_while_the_msm_slept_comes_back_but_for_the_one_that_sends() -> None:
    table, kernel = opened()
    for effect in (install(EPOCH), roster(), SwitchSending(GROUP_ID, EPOCH, OWN)):
        kernel.carry_out(table.control(effect, NOW))
    expired = list(kernel.states.values())
    kernel.states.clear()
    operations, sending_lost = table.expired(expired, NOW + 1000)
    assert sending_lost
    kernel.carry_out(operations)
    assert kernel.hears == heard(EPOCH, 2, 3, AUTHORIZER)
    assert kernel.sends_under is None
    assert table.expired(expired[-1:], NOW + 1000)[1] is False


def test_the_senders_at_one_address_are_told_apart_as_far_as_can_be() -> None:
    table, _ = opened()
    together = SetRoster(
        GROUP_ID, {2: "10.0.0.2", 5: "10.0.0.5", 6: "10.0.0.5", AUTHORIZER: "10.0.0.2"}, OWN, AUTHORIZER
    )
    table.control(together, NOW)
    assert table.senders.sender_at("10.0.0.2") == 2
    assert table.senders.is_authorizer("10.0.0.2")
    assert table.senders.sender_at("10.0.0.5") == 6  # the later one
    assert not table.senders.is_authorizer("10.0.0.5")
    assert table.senders.sender_at("10.0.0.77") is None
    table.control(SetRoster(GROUP_ID, {}, OWN, None), NOW)
    assert not table.senders.is_authorizer("10.0.0.2")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.sets(st.sampled_from([2, 3, AUTHORIZER])))))
@settings(max_examples=200, deadline=None)
def test_whatever_comes_in_whatever_order_the_kernels_tables_are_right(steps: list[tuple[int, int, set[int]]]) -> None:
    table, kernel = opened()
    known: dict[int, None] = {}
    present: set[int] = set()
    switched: set[int] = set()
    for what, number, without in steps:
        epoch = EPOCH + number
        effect: Any
        if what == 0:
            effect, known = install(epoch), {**known, epoch: None}
        elif what == 1:
            effect = DropEpoch(GROUP_ID, epoch)
            known.pop(epoch, None)
        elif what == 2:
            effect, present = roster(*without), {2, 3, AUTHORIZER} - without
        elif what == 3 and epoch in known and epoch not in switched:
            effect = SwitchSending(GROUP_ID, epoch, OWN)
            switched.add(epoch)
        elif what == 4:
            effect = PauseSending(GROUP_ID)
        else:
            effect = ResumeSending(GROUP_ID)
        kernel.carry_out(table.control(effect, NOW))
        assert kernel.hears == {pair for one in known for pair in heard(one, *present)}
        assert {state.spi for state in table.states} == {state.spi for state in kernel.states.values()}


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        ({"gkm": "iolus"}, "xfrm.subgroups"),
        ({"replay_window": 8192}, "xfrm.replay-window"),
    ],
)
def test_what_the_kernel_can_not_do_is_refused_with_the_way_out(policy: dict[str, Any], rule: str) -> None:
    with pytest.raises(Refused, match=r'Choose driver = "relay"') as refused:
        KernelTable("example.org", described(**policy), OWN_ADDRESS, REQIDS)
    assert refused.value.rule == rule


@pytest.mark.parametrize("kind", ["signature", "tree", "tesla"])
def test_so_is_source_authentication(kind: str) -> None:
    group = described()
    group.policy.source_authentication = kind
    with pytest.raises(Refused, match=kind) as refused:
        KernelTable("example.org", group, OWN_ADDRESS, REQIDS)
    assert refused.value.rule == "xfrm.source-authentication"


def test_a_state_has_the_key_of_its_sender_and_epoch_alone() -> None:
    table, kernel = opened()
    for effect in (install(EPOCH), install(EPOCH + 1), roster(), SwitchSending(GROUP_ID, EPOCH, OWN)):
        kernel.carry_out(table.control(effect, NOW))
    assert len({state.key.reveal() for state in kernel.states.values()}) == len(kernel.states) == 7
    assert ip_address(OWN_ADDRESS) == table.sending.source if table.sending else False


def test_the_control_group_is_the_msms_own_sockets_and_nobody_elses() -> None:
    group = described()
    group.name = "control"
    table, kernel = KernelTable("example.org", group, OWN_ADDRESS, REQIDS), Kernel()
    kernel.carry_out(table.opening())
    for effect in (install(EPOCH), roster(), SwitchSending(GROUP_ID, EPOCH, OWN)):
        kernel.carry_out(table.control(effect, NOW))
    assert kernel.sends_under is None
    [inward] = [p for p in kernel.policies.values() if p.direction == "in" and not p.selector.destination_port]
    assert inward.blocks
    demanding, sealing = table.socket_policies
    assert (demanding.direction, demanding.template, demanding.blocks) == ("in", Template(REQIDS.receiving), False)
    assert (sealing.direction, sealing.blocks) == ("out", False)
    assert sealing.template == Template(REQIDS.sending, spi_for(EPOCH, OWN))
    table.control(PauseSending(GROUP_ID), NOW)
    assert table.socket_policies[1].blocks
    table.control(ResumeSending(GROUP_ID), NOW)
    assert not table.socket_policies[1].blocks
    table.closing()
    assert table.socket_policies[1].blocks
    assert not opened()[0].socket_policies
