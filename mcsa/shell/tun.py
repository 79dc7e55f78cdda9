"""The door to a TUN interface: what applications send to routed addresses is read there, and packets are given to them.

Linux only; numbers are from linux/if_tun.h. The interface lives as long as this process has it open. With segmentation
offload (TUN_F_USO4, Linux 6.2, probed) an application's many datagrams come, and go, in one call. What the kernel
refuses becomes a `Refused`, code "tun", whose sentence has the way out.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import struct
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mcsa.addresses import check_text
from mcsa.errors import Refused, Rejected
from mcsa.esp.ip import Alike, Datagram, alike, parse_datagram, too_big
from mcsa.esp.super_packets import VNET_HEADER, VNET_HEADER_SIZE, most_segments, split, write_super_headers
from mcsa.shell.interfaces import IFF_UP, interface_flags
from mcsa.shell.programs import run_program

CODE = "tun"
DEVICE = Path("/dev/net/tun")
ADDRESS = "169.254.77.83"  # this host's on the interface: link-local (RFC 3927), so it never leaves; 77, 83 is "MS"
ADDRESS_6 = "fe80::4d:53"
FAR_END = "169.254.77.84"  # as whom the interface answers, and whoever has no address that is known here speaks
FAR_END_6 = "fe80::4d:54"
QUEUE = 8_192  # packets that wait for us to read: 100 ms of the fastest application
LONGEST_NAME = 15  # IFNAMSIZ without its zero

_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_TUNGETIFF = 0x800454D2
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_USO4, _TUN_F_USO6 = 0x01, 0x20, 0x40
_OFFLOADS = (_TUN_F_CSUM | _TUN_F_USO4 | _TUN_F_USO6, _TUN_F_CSUM, 0)  # best first
_IFREQ = struct.Struct("16sH22x")
_LARGEST_READ = VNET_HEADER_SIZE + 65_575  # an IPv6 packet has 40 bytes beyond its length


class Outgoing(NamedTuple):
    """Payloads that an application sent one after another, with the same headers."""

    datagram: Datagram  # of the first
    payloads: list[bytes]


class TunInterface:
    """A TUN interface by that name, up. `Refused`, without a trace left, where it can't be had.

    It has addresses of its own, `ADDRESS` and `ADDRESS_6`, not the host's. Linux takes a multicast sender's source
    address, once it is known (bind(2), connect(2)), to name the interface: with the host's own on two of them, all of
    its other multicast would be drawn in here, our own sockets too, or what is meant for here would go elsewhere. The
    address that applications see as their own stays on this host.
    """

    def __init__(self, name: str, mtu: int, *, offload: bool = True) -> None:
        if not 0 < len(name.encode()) <= LONGEST_NAME or "/" in name or name.split() != [name]:
            sentence = f"{name!r} can't be an interface's name: up to {LONGEST_NAME} letters and digits."
            raise Refused(CODE, "name", sentence)
        self.name = name
        self.mtu = mtu
        self.counters: Counter[str] = Counter()
        self._routes: dict[str, int] = {}  # groups, and their MTU; 0 where it is the interface's
        self._memberships: dict[str, socket.socket] = {}
        self._access = threading.Lock()  # to both: groups come and go while `restore` looks at them
        self._wants_offload = offload
        self._descriptor = _open()
        try:
            _attach(self._descriptor, name)
            self._set_up()
        except BaseException:
            os.close(self._descriptor)
            raise
        self._buffer = bytearray(_LARGEST_READ)
        self._into = (memoryview(self._buffer),)
        self._far_end = bytes(map(int, FAR_END.split(".")))

    def _set_up(self) -> None:
        self._is_set_up = False
        self.offloaded = _set_offload(self._descriptor, self._wants_offload)
        """Whether many datagrams come and go in one piece."""
        settings = Path("/proc/sys/net/ipv4/conf")
        everywhere = int((settings / "all/rp_filter").read_text())
        with suppress(OSError):  # a read-only /proc/sys: as the host has it
            # Who sends what is decided before; a reverse path check would drop senders to whom there is no route. It
            # can't be switched off where the host asks for it everywhere, but be made loose.
            (settings / self.name / "rp_filter").write_text("2" if everywhere else "0")
        self._ip(
            f"link set {self.name} addrgenmode none mtu {self.mtu} txqueuelen {QUEUE}",
            f"link set {self.name} up",
        )
        self._set_addresses()
        for group in self._memberships:
            self._join(group)
        self._is_set_up = True

    def _set_addresses(self) -> None:
        self._ip(f"address replace {ADDRESS} peer {FAR_END} dev {self.name} scope link")
        with suppress(Refused):  # a host without IPv6
            self._ip(f"address replace {ADDRESS_6}/128 dev {self.name} nodad")

    def _ip(self, *commands: str) -> None:
        run_program(["ip", "-batch", "-"], CODE, "\n".join(commands) + "\n")

    def fileno(self) -> int:
        """Readable when applications have sent something."""
        return self._descriptor

    def close(self) -> None:
        """The interface and its routes are gone. May be called twice."""
        for group in list(self._memberships):
            self._memberships.pop(group).close()
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    # ---- routes

    def route(self, group: str, mtu: int = 0) -> None:
        """What applications send to this address comes here, and they join it here unless they choose an interface;
        `mtu` where it is less than the interface's. Who joined it elsewhere before is shown what is written here too,
        as Linux does unless asked not to (IP_MULTICAST_ALL). `Refused`."""
        check_text(group, CODE)
        with self._access:
            if ":" in group:  # one that was down has lost its address of IPv6
                self._set_addresses()
            self._set_route(group, mtu)
            self._join(group)
            self._routes[group] = mtu

    def _set_route(self, group: str, mtu: int) -> None:
        limit = f" mtu {mtu}" if mtu and mtu < self.mtu else ""
        if ":" in group:
            self._ip(f"route replace multicast {group}/128 dev {self.name} table local{limit}")
        else:
            self._ip(f"route replace {group}/32 dev {self.name} src {ADDRESS}{limit}")

    def mtu_of(self, group: str) -> int:
        """As `route` was told; 0 where nothing is routed."""
        return self._routes.get(group, 0)

    def unroute(self, group: str) -> None:
        """No longer."""
        with self._access:
            self._routes.pop(group, None)
            membership = self._memberships.pop(group, None)
            if membership is not None:
                membership.close()
            with suppress(Refused):  # it has gone, with the address or the interface
                if ":" in group:
                    self._ip(f"route delete multicast {group}/128 dev {self.name} table local")
                else:
                    self._ip(f"route delete {group}/32 dev {self.name}")

    def resize(self, mtu: int) -> bool:
        """Another MTU from now on; routes that have one of their own keep it. False if it was that. `Refused`."""
        with self._access:
            if mtu == self.mtu:
                return False
            self.mtu = mtu
            self._ip(f"link set {self.name} mtu {mtu}")
            return True

    def restore(self) -> bool:
        """Puts back what an administrator took: addresses, routes, the interface itself; says whether it had to. One
        that is down stays so, and what was lost with that is put back once it is up. `Refused`."""
        with self._access:
            if self._is_deleted():
                self._is_set_up = False
                _attach(self._descriptor, self.name)
            if not self._is_set_up:
                self._set_up()
            elif interface_flags(self.name) & IFF_UP and not self._is_complete():
                self._set_addresses()
            else:
                return False
            self._set_routes()
            return True

    def _is_deleted(self) -> bool:
        try:
            fcntl.ioctl(self._descriptor, _TUNGETIFF, bytearray(_IFREQ.size))
        except OSError:
            return True
        return False

    def _is_complete(self) -> bool:
        """Whether all routes are there. With an address go those that name it, and it is put back with them."""
        routes = json.loads(run_program(["ip", "-j", "route", "show", "table", "all", "dev", self.name], CODE))
        return self._routes.keys() <= {route["dst"].partition("/")[0] for route in routes}

    def _set_routes(self) -> None:
        for group, mtu in self._routes.items():
            self._set_route(group, mtu)

    def _join(self, group: str) -> None:
        before = self._memberships.get(group)
        self._memberships[group] = _join(group, self.name)
        if before is not None:
            before.close()

    # ---- packets

    def read(self, most: int = 64) -> list[Outgoing]:
        """What waits, in order, at most so many packets or super-packets; an empty list where nothing does. `OSError`,
        EBADFD, where somebody has deleted the interface, until it was made anew (`restore`).

        Dropped, and counted by `mcsa.esp.ip.parse_datagram`'s causes, is what is no whole UDP datagram.
        """
        found: list[Outgoing] = []
        buffer, into, descriptor = self._buffer, self._into, self._descriptor
        view = into[0]
        before: tuple[Alike | None, int] = (None, 0)
        payloads: list[bytes] = []
        start = 0
        for _ in range(most):
            try:
                end = os.readv(descriptor, into)
            except BlockingIOError:
                break
            segment_size = VNET_HEADER.unpack_from(buffer)[3] if buffer[1] else 0
            now = alike(buffer, VNET_HEADER_SIZE), segment_size
            if now == before and now[0] is not None:
                if segment_size:
                    payloads += split(buffer, start, end, segment_size)
                else:
                    payloads.append(bytes(view[start:end]))
                continue
            before = None, 0
            try:
                datagram = parse_datagram(buffer, VNET_HEADER_SIZE, end)
            except Rejected as rejected:
                self._reject(rejected.cause, end)
                continue
            before, start = now, datagram.start
            payloads = list(split(buffer, start, end, segment_size))
            found.append(Outgoing(datagram, payloads))
        return found

    def _reject(self, cause: str, end: int) -> None:
        self.counters[cause] += 1
        if cause == "fragment":  # tell the application's kernel what fits, if that application wants to hear it
            answer = too_big(memoryview(self._buffer)[:end], VNET_HEADER_SIZE, self.mtu, self._far_end)
            if answer is not None:
                self._write((bytes(VNET_HEADER_SIZE), answer), 0)

    def write(
        self,
        source: bytes,
        destination: bytes,
        source_port: int,
        destination_port: int,
        payloads: Sequence[bytes],
        traffic_class: int = 0,
        hop_limit: int = 1,
    ) -> None:
        """Gives datagrams to the applications of this host, as from `source`. What the kernel doesn't take is counted
        as `undelivered`."""
        index, count = 0, len(payloads)
        headers = source, destination, source_port, destination_port, traffic_class, hop_limit
        while index < count:
            size = len(payloads[index])
            after, most = index + 1, count
            if self.offloaded:
                most = min(count, index + most_segments(source, size))
                while after < most and len(payloads[after]) == size:
                    after += 1
            together = payloads[index:after]
            front = write_super_headers(*headers, size * len(together), size if len(together) > 1 else 0)
            self._write((front, *together), len(together))
            index = after

    def _write(self, parts: Sequence[bytes], amount: int) -> None:
        try:
            os.writev(self._descriptor, parts)
        except OSError:  # down, or its queue is full
            self.counters["undelivered"] += amount

    def dropped(self) -> int:
        """Packets of applications that the kernel dropped because we were not quick enough to read them."""
        for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
            name, _, values = line.partition(":")
            if name.strip() == self.name:
                return int(values.split()[11])  # transmit: bytes packets errs drop
        return 0


def physical_mtu(address: str) -> int:
    """The MTU of the interface that has this address, with its scope if it is link-local; `Refused` where none has."""
    local, _, scope = address.partition("%")
    for link in json.loads(run_program(["ip", "-j", "address"], CODE)):
        if scope in ("", link["ifname"]) and any(each.get("local") == local for each in link["addr_info"]):
            return int(link["mtu"])
    raise Refused(CODE, "address", f"No interface of this host has the address {address}. See: ip address")


def _join(group: str, interface: str) -> socket.socket:
    number = struct.pack("=i", socket.if_nametoindex(interface))
    family, level, option, request = (
        (socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, group))
        if ":" in group
        else (socket.AF_INET, socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + bytes(4))
    )
    door = socket.socket(family, socket.SOCK_DGRAM)
    try:
        door.setsockopt(level, option, request + number)
    except OSError as error:
        door.close()
        raise Refused(CODE, group, f"{group} can't be joined on {interface}: {error.strerror}.") from error
    return door


def _open() -> int:
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        mend = "modprobe tun, or hand the container the device"
        raise Refused(CODE, str(DEVICE), f"{DEVICE} can't be opened ({error.strerror}): {mend}.") from error


def _attach(descriptor: int, name: str) -> None:
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, _IFREQ.pack(name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR))
    except OSError as error:
        raise Refused(CODE, "interface", _why(name, error)) from error


def _why(name: str, error: OSError) -> str:
    if error.errno == errno.EPERM:
        return f'{name} can\'t be made: this needs CAP_NET_ADMIN. Run it as root, or choose driver = "relay".'
    if error.errno == errno.EBUSY:
        return f"{name} is in use by another process, another MSM perhaps: end that, or choose another interface name."
    return f"{name} can't be made: {error.strerror}. Is there another interface of that name?"


def _set_offload(descriptor: int, wanted: bool) -> bool:
    for flags in _OFFLOADS if wanted else (0,):
        with suppress(OSError):
            fcntl.ioctl(descriptor, _TUNSETOFFLOAD, flags)
            return bool(flags & _TUN_F_USO4)
    return False
