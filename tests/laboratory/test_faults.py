"""Faults: what is dropped, what isn't, and that it ends."""

from __future__ import annotations

import socket

import pytest

from mcsa.errors import Refused
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.shell.multicast import GroupSocket, MulticastListener

SAP_PORT = 9875
SAP_GROUP = "224.2.127.254"
WAITS_FOR = 10.0


def listener(laboratory: Laboratory, name: str) -> MulticastListener:
    with laboratory[name].inside():
        opened = MulticastListener((SAP_GROUP,), SAP_PORT, laboratory[name].address, loop=False)
    laboratory.await_membership(laboratory[name], SAP_GROUP)
    opened.socket.settimeout(WAITS_FOR)
    return opened


def udp(host: Host, port: int) -> socket.socket:
    with host.inside():
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind((host.address, port))
    opened.settimeout(WAITS_FOR)
    return opened


def test_without_sap_the_rest_goes_on_and_the_speaker_knows(laboratory: Laboratory) -> None:
    with (
        listener(laboratory, "beta") as hears,
        listener(laboratory, "infrastructure") as speaks,
        udp(laboratory["beta"], 4500) as other,
    ):
        speaks.send(b"before", SAP_GROUP)
        laboratory.faults.drop_udp_port(SAP_PORT)
        speaks.send(b"dropped", SAP_GROUP)
        speaks.socket.sendto(b"unicast", (laboratory["beta"].address, 4500))
        assert other.recv(100) == b"unicast"
        laboratory.faults.clear()
        speaks.send(b"after", SAP_GROUP)
        assert [hears.socket.recv(100) for _ in range(2)] == [b"before", b"after"]
        assert [speaks.socket.recv(100) for _ in range(2)] == [b"before", b"after"]  # its own, through the network


def test_one_group_can_be_dropped_alone(laboratory: Laboratory) -> None:
    dropped, kept = laboratory.plan.group(21), laboratory.plan.group(22)
    alpha, beta = laboratory["alpha"], laboratory["beta"]
    with beta.inside():
        receivers = [GroupSocket(group, 4500, beta.address) for group in (dropped, kept)]
    with alpha.inside():
        senders = [GroupSocket(group, 4500, alpha.address, bind_group=False) for group in (dropped, kept)]
    for group, receiver in zip((dropped, kept), receivers, strict=True):
        laboratory.await_membership(beta, group)
        receiver.socket.settimeout(WAITS_FOR)
    laboratory.faults.drop_group(dropped)
    for sender in senders:
        sender.send(b"one")
    assert receivers[1].socket.recv(100) == b"one"
    laboratory.faults.clear()
    senders[0].send(b"two")
    assert receivers[0].socket.recv(100) == b"two"
    for opened in (*receivers, *senders):
        opened.close()


def test_a_host_can_be_cut_off(laboratory: Laboratory) -> None:
    with (
        udp(laboratory["alpha"], 5000) as alpha,
        udp(laboratory["beta"], 5000) as beta,
        udp(laboratory["gamma"], 5000) as gamma,
    ):
        for sender, receiver in ((alpha, beta), (beta, alpha), (gamma, alpha)):  # resolves the addresses
            sender.sendto(b"before", receiver.getsockname())
            assert receiver.recv(100) == b"before"
        laboratory.faults.cut_off(laboratory["beta"])
        alpha.sendto(b"lost", beta.getsockname())
        beta.sendto(b"lost", alpha.getsockname())
        gamma.sendto(b"others go on", alpha.getsockname())
        assert alpha.recv(100) == b"others go on"
        laboratory.faults.clear()
        alpha.sendto(b"back", beta.getsockname())
        assert beta.recv(100) == b"back"


@pytest.mark.parametrize("only_udp", [False, True])
def test_a_host_loses_about_what_is_said(laboratory: Laboratory, only_udp: bool) -> None:
    sent = 2000
    with udp(laboratory["alpha"], 5000) as alpha, udp(laboratory["beta"], 5000) as beta:
        beta.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE: nothing else shall be lost
        alpha.sendto(b"resolves the address", beta.getsockname())
        beta.recv(100)
        laboratory.faults.lose(laboratory["beta"], 20, only_udp=only_udp)
        for _ in range(sent):
            alpha.sendto(b"x", beta.getsockname())
        laboratory.faults.clear()
        alpha.sendto(b"end", beta.getsockname())
        arrived = 0
        while beta.recv(100) != b"end":
            arrived += 1
    # Binomial, standard deviation 0.9 %: seven of them either way.
    assert 0.14 < 1 - arrived / sent < 0.26


def test_udp_alone_can_be_lost(laboratory: Laboratory) -> None:
    beta = laboratory["beta"]
    laboratory.faults.lose(beta, 100, only_udp=True)
    with beta.inside():
        server = socket.create_server((beta.address, 5000))
    with server, laboratory["alpha"].inside():
        with socket.create_connection((beta.address, 5000), timeout=WAITS_FOR) as client:
            assert client.getpeername() == (beta.address, 5000)


@pytest.mark.parametrize("percent", [-1, 101])
def test_no_other_percentages(laboratory: Laboratory, percent: int) -> None:
    with pytest.raises(ValueError, match="0 to 100"):
        laboratory.faults.lose(laboratory["beta"], percent)


def test_a_missing_nft_is_named(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None if name == "nft" else f"/usr/sbin/{name}")
    with pytest.raises(Refused, match="apt-get install nftables") as refused:
        laboratory.faults.drop_group("239.1.1.1")
    assert refused.value.rule == "nft"
    monkeypatch.undo()
