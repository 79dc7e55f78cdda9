"""Tunnels between two hosts of a laboratory that carry an application's packets: ours, and others' that it is held
against. Those carry unicast only.

The others are programs of Debian; who lacks one gets None. strongSwan does ESP in user space here (kernel-libipsec),
as wireguard-go does WireGuard: both read and write a TUN interface, as we do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.two_hosts import Fork
from mcsa.keys import GroupKey
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.networks import Networks
from mcsa.policy import complete_policy
from mcsa.shell.programs import find_program
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm.drivers import DriverSettings
from services.msm.drivers.tun import TunDriver
from services.msm.events import InstallEpoch, SetRoster, SwitchSending

HOSTS = ("sender", "receiver")
INNER = {"sender": "10.99.1.1", "receiver": "10.99.2.1"}
_GROUP_ID, _EPOCH = bytes(16), 1_800_000_000_000
_STARTS_WITHIN = 15.0  # seconds
_CHARON = "/usr/sbin/charon-systemd"
_CHARON_PLUGINS = (
    "random nonce openssl hmac kdf gcm aes sha1 sha2 curve25519 kernel-libipsec kernel-netlink socket-default vici"
)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Where an application on one host sends to, to be heard by one on the other."""

    sender: Host
    receiver: Host
    destination: str


# ---- ours


@contextmanager
def secured_group(laboratory: Laboratory, folder: Path) -> Iterator[Tunnel]:
    """The driver `tun` on both hosts, each in a process of its own, and a group between them."""
    group = laboratory.plan.group(1)
    addresses = {number: laboratory[name].address for number, name in enumerate(HOSTS, 1)}
    with ExitStack() as running:
        for number, name in enumerate(HOSTS, 1):
            ready_out, ready_in = Fork.Pipe(duplex=False)
            arguments = (laboratory[name], number, group, addresses, folder / name, ready_in)
            process = Fork.Process(target=_secure, args=arguments, daemon=True)
            process.start()
            running.callback(process.join)
            running.callback(process.terminate)
            if not ready_out.poll(_STARTS_WITHIN) or not ready_out.recv():
                raise TimeoutError(f"the driver on {name} did not start")
            laboratory.await_membership(laboratory[name], group)
        yield Tunnel(laboratory[HOSTS[0]], laboratory[HOSTS[1]], group)


def _secure(host: Host, number: int, address: str, addresses: dict[int, str], folder: Path, ready: Any) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    policy = complete_policy(GroupPolicy())
    group = GroupDescription(group_id=_GROUP_ID, name="bench", address=address, port=5004, ttl=1, policy=policy)
    with host.inside():
        driver = TunDriver(DriverSettings(Networks.only(host.address), folder))
        opened = driver.open("bench", group, lambda _: None)
        opened.control(InstallEpoch(_GROUP_ID, _EPOCH, GroupKey(bytes(32))))
        opened.control(SetRoster(_GROUP_ID, addresses, number, None))
        opened.control(SwitchSending(_GROUP_ID, _EPOCH, number))
        ready.send(True)
        signal.sigwait([signal.SIGTERM])
        opened.close()
        driver.close()


# ---- others'


@contextmanager
def wireguard(laboratory: Laboratory, folder: Path) -> Iterator[Tunnel | None]:
    """wireguard-go on both hosts."""
    if not (find_program("wireguard-go") and find_program("wg")):
        yield None
        return
    secrets = {name: subprocess.run(["wg", "genkey"], capture_output=True, check=True).stdout for name in HOSTS}
    public = {
        name: subprocess.run(["wg", "pubkey"], input=secret, capture_output=True, check=True).stdout.decode().strip()
        for name, secret in secrets.items()
    }
    with ExitStack() as running:
        for name, other in (HOSTS, HOSTS[::-1]):
            host, key = laboratory[name], folder / f"{name}.key"
            device = f"wg-{name}"  # its control socket is of this name, wherever the host is
            key.write_bytes(secrets[name])
            _run(running, host, ["wireguard-go", "-f", device], folder / f"{name}.log")
            _await(host, ["ip", "link", "show", device])
            peer = ["peer", public[other], "endpoint", f"{laboratory[other].address}:51820"]
            peer += ["allowed-ips", f"{INNER[other]}/32"]
            host.run(["wg", "set", device, "private-key", str(key), "listen-port", "51820", *peer])
            host.run(["ip", "address", "add", INNER[name], "peer", INNER[other], "dev", device])
            host.run(["ip", "link", "set", device, "up"])
        yield Tunnel(laboratory[HOSTS[0]], laboratory[HOSTS[1]], INNER[HOSTS[1]])


@contextmanager
def libipsec(laboratory: Laboratory, folder: Path) -> Iterator[Tunnel | None]:
    """strongSwan with kernel-libipsec on both hosts, AES-128-GCM."""
    plugin = Path("/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so")
    if not (Path(_CHARON).exists() and plugin.exists() and find_program("swanctl")):
        yield None
        return
    with ExitStack() as running:
        for name, other in (HOSTS, HOSTS[::-1]):
            host, own = laboratory[name], folder / name
            own.mkdir(exist_ok=True)
            (own / "strongswan.conf").write_text(_strongswan(own))
            (own / "swanctl.conf").write_text(_connection(name, other, host.address, laboratory[other].address))
            host.run(["ip", "address", "add", f"{INNER[name]}/32", "dev", "lo"])
            _run(running, host, [_CHARON], own / "log", STRONGSWAN_CONF=str(own / "strongswan.conf"))
            load = ["--load-all", "--file", str(own / "swanctl.conf")]
            _await(host, _swanctl(own, *load))
        _await(laboratory[HOSTS[0]], _swanctl(folder / HOSTS[0], "--initiate", "--child", "bench"))
        yield Tunnel(laboratory[HOSTS[0]], laboratory[HOSTS[1]], INNER[HOSTS[1]])


def _swanctl(own: Path, *arguments: str) -> list[str]:
    configured = ["env", f"STRONGSWAN_CONF={own / 'strongswan.conf'}"]
    return [*configured, "swanctl", *arguments, "--uri", f"unix://{own / 'vici'}"]


def _strongswan(own: Path) -> str:
    return f"""
charon-systemd {{
  load = {_CHARON_PLUGINS}
  plugins {{
    vici {{
      socket = unix://{own / "vici"}
    }}
  }}
}}
swanctl {{
  load = random openssl
}}
"""


def _connection(name: str, other: str, address: str, other_address: str) -> str:
    return f"""
connections {{
  bench {{
    version = 2
    local_addrs = {address}
    remote_addrs = {other_address}
    proposals = aes128-sha256-curve25519
    local {{
      auth = psk
      id = {name}
    }}
    remote {{
      auth = psk
      id = {other}
    }}
    children {{
      bench {{
        local_ts = {INNER[name]}/32
        remote_ts = {INNER[other]}/32
        esp_proposals = aes128gcm16
      }}
    }}
  }}
}}
secrets {{
  ike-bench {{
    secret = "bench"
  }}
}}
"""


def _run(running: ExitStack, host: Host, argv: list[str], log: Path, **variables: str) -> None:
    with log.open("wb") as written:
        process = host.popen(argv, stdout=written, stderr=written, env={**os.environ, **variables})
    running.callback(process.wait)
    running.callback(process.terminate)


def _await(host: Host, argv: list[str]) -> None:
    """Until that succeeds."""
    deadline = time.monotonic() + _STARTS_WITHIN
    while True:
        done = subprocess.run(host.command(argv), capture_output=True, text=True, check=False)
        if not done.returncode:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{' '.join(argv)}: {done.stderr.strip()[-300:] or done.stdout.strip()[-300:]}")
        time.sleep(0.1)
