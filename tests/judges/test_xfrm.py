"""iproute2 says whether our netlink messages are right: byte for byte what it sends, whatever the kernel answers."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from mcsa.esp.derive import TrafficKey
from mcsa.esp.suite import SUITES
from mcsa.xfrm.layout import Selector
from mcsa.xfrm.operations import AddState, DeletePolicy, DeleteState, Operation, RenewState, SetPolicy, encode_operation
from mcsa.xfrm.policy import KernelPolicy, Template
from mcsa.xfrm.state import KernelState
from tests.judges import require_program

SPI = 0x12345678
ADDRESSES = {4: ("10.9.1.1", "239.1.1.1", "0.0.0.0"), 6: ("fd00::9", "ff18::1:2", "::")}
KERNEL_NAMES = {
    "aes-256-gcm": "rfc4106(gcm(aes))",
    "aes-128-gcm": "rfc4106(gcm(aes))",
    "chacha20-poly1305": "rfc7539esp(chacha20,poly1305)",
}
TYPES = {"NEWSA": 0x10, "DELSA": 0x11, "DELPOLICY": 0x14, "UPDPOLICY": 0x19, "UPDSA": 0x1A}
SENT = re.compile(
    r'nlmsg_len=(\d+), nlmsg_type=XFRM_MSG_(\w+), nlmsg_flags=(\w+)\|(\w+), [^}]*\}, "((?:\\x[0-9a-f]{2})*)"'
)
OUTBOUND, WINDOW = 0, 1024


def state(version: int = 4, suite: str = "aes-256-gcm", window: int = WINDOW, in_udp: bool = True) -> KernelState:
    source, destination, _ = ADDRESSES[version]
    raw = bytes(range(1, SUITES[suite].keymat_size + 1))
    key = TrafficKey(raw, SUITES[suite], SPI)
    return KernelState(ip_address(source), ip_address(destination), key, 7, window, in_udp)


def state_words(version: int = 4, suite: str = "aes-256-gcm", window: int = WINDOW, in_udp: bool = True) -> str:
    source, destination, _ = ADDRESSES[version]
    raw = bytes(range(1, SUITES[suite].keymat_size + 1)).hex()
    words = f"src {source} dst {destination} proto esp spi {SPI:#x} reqid 7 mode transport"
    words += f" aead {KERNEL_NAMES[suite]} 0x{raw} 128"
    words += f" encap espinudp 4500 4500 {ADDRESSES[4][2]}" if in_udp else ""
    words += f" replay-window {window}" if window else ""
    return f"{words} sel src {source} dst {destination} proto udp"


def policy_words(version: int, direction: str, more: str) -> str:
    _, destination, anybody = ADDRESSES[version]
    bits = {4: 32, 6: 128}[version]
    return f"dir {direction} src {anybody}/0 dst {destination}/{bits} proto udp {more}"


def template(version: int, more: str = "") -> str:
    anybody = ADDRESSES[version][2]
    return f"tmpl src {anybody} dst {anybody} proto esp {more} reqid 7 mode transport"


def sent_by_iproute2(words: str, folder: Path) -> bytes:
    """The request of `ip xfrm ...`, with its number as 0."""
    trace = folder / "trace"
    alone = [require_program("unshare"), "--map-root-user", "--net"]  # the kernel of this machine may well obey
    command = [*alone, require_program("strace"), "-f", "-o", str(trace), "-e", "trace=network", "-xx", "-s", "4096"]
    done = subprocess.run(
        [*command, require_program("ip"), "xfrm", *words.split()], capture_output=True, text=True, check=False
    )
    found = SENT.search(trace.read_text())
    assert found, f"iproute2 sent nothing: {done.stderr}"
    length, kind, *flags, body = found.groups()
    assert flags == ["NLM_F_REQUEST", "NLM_F_ACK"]
    head = int(length).to_bytes(4, "little") + TYPES[kind].to_bytes(2, "little") + b"\5\0" + bytes(8)
    return head + bytes.fromhex(body.replace("\\x", ""))


def check(operation: Operation, words: str, folder: Path) -> None:
    assert encode_operation(operation, 0).hex(" ") == sent_by_iproute2(words, folder).hex(" ")


@pytest.mark.parametrize("in_udp", [True, False], ids=["udp", "protocol-50"])
@pytest.mark.parametrize("window", [0, 32, 33, 1024, 4096])
def test_a_state_is_made_as_iproute2_does(tmp_path: Path, window: int, in_udp: bool) -> None:
    words = f"state add {state_words(window=window, in_udp=in_udp)}"
    check(AddState(state(window=window, in_udp=in_udp)), words, tmp_path)


@pytest.mark.parametrize("suite", [*SUITES])
@pytest.mark.parametrize("version", [4, 6])
def test_so_is_one_of_each_suite_and_family(tmp_path: Path, version: int, suite: str) -> None:
    words = f"state add {state_words(version, suite, in_udp=False)}"
    check(AddState(state(version, suite, in_udp=False)), words, tmp_path)


def test_so_is_one_with_limits_made_and_changed(tmp_path: Path) -> None:
    limited = replace(state(window=OUTBOUND), lives_for=90, warn_after=4_000_000_000)
    limits = "limit time-hard 90 limit packet-soft 4000000000"
    check(AddState(limited), f"state add {state_words(window=OUTBOUND)} {limits}", tmp_path)
    check(RenewState(limited), f"state update {state_words(window=OUTBOUND)} {limits}", tmp_path)


@pytest.mark.parametrize("version", [4, 6])
def test_a_state_is_deleted_as_iproute2_does(tmp_path: Path, version: int) -> None:
    source, destination, _ = ADDRESSES[version]
    check(DeleteState(state(version)), f"state delete src {source} dst {destination} proto esp spi {SPI:#x}", tmp_path)


@pytest.mark.parametrize("version", [4, 6])
def test_a_policy_is_set_as_iproute2_does(tmp_path: Path, version: int) -> None:
    group = ip_address(ADDRESSES[version][1])
    demanding = KernelPolicy("in", Selector(group), 100, Template(7))
    words = policy_words(version, "in", f"priority 100 {template(version)}")
    check(SetPolicy(demanding), f"policy update {words}", tmp_path)
    sealing = KernelPolicy("out", Selector(group), 100, Template(7, SPI))
    words = policy_words(version, "out", f"priority 100 {template(version, f'spi {SPI:#x}')}")
    check(SetPolicy(sealing), f"policy update {words}", tmp_path)
    blocking = KernelPolicy("out", Selector(group), 100, Template(7), blocks=True)
    words = policy_words(version, "out", f"action block priority 100 {template(version)}")
    check(SetPolicy(blocking), f"policy update {words}", tmp_path)
    passing = KernelPolicy("in", Selector(group, destination_port=4500), 99)
    check(
        SetPolicy(passing),
        f"policy update {policy_words(version, 'in', 'priority 99')}".replace("udp", "udp dport 4500"),
        tmp_path,
    )


@pytest.mark.parametrize("version", [4, 6])
def test_a_policy_is_deleted_as_iproute2_does(tmp_path: Path, version: int) -> None:
    policy = KernelPolicy("out", Selector(ip_address(ADDRESSES[version][1])), 100, Template(7))
    check(DeletePolicy(policy), f"policy delete {policy_words(version, 'out', '')}", tmp_path)


def test_these_words_do_reach_the_comparison(tmp_path: Path) -> None:
    """A judge that never finds a difference is none."""
    with pytest.raises(AssertionError):
        check(AddState(replace(state(), reqid=8)), f"state add {state_words()}", tmp_path)
