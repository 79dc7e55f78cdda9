"""The door to what the kernel's IPsec opened, and to what it should seal: raw sockets of one group, for the MSM itself.

Applications don't need this: they have ordinary UDP sockets on the group's own address. Needs CAP_NET_RAW.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple, Self

from mcsa.addresses import canonical
from mcsa.errors import Refused
from mcsa.esp.checksum import inner_checksum
from mcsa.esp.inner import UDP_CHECKSUM_AT
from mcsa.shell.multicast import BUFFER_SIZE, ESP_PORT, SO_RCVBUFFORCE, GroupSocket
from mcsa.shell.multicast_errors import RAW, Attempt
from mcsa.shell.multicast_families import IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, interface_with
from mcsa.v1.types_pb2 import GroupDescription
from mcsa.xfrm.filters import nothing
from mcsa.xfrm.policy import KernelPolicy

CODE = "kernel-ipsec"
_PMTUDISC_DO = 2  # linux/in.h, and the same of IPv6
_IP_XFRM_POLICY, _IPV6_XFRM_POLICY = 17, 35  # linux/in.h, linux/in6.h
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_UDP_ENCAP, _UDP_NO_CHECK6_RX, _UDP_ENCAP_ESPINUDP = 100, 102, 2  # linux/udp.h
_HEADER = struct.Struct(">HHHH")
_LARGEST_DATAGRAM = 65_535


class Opened(NamedTuple):
    """A datagram that the filter let through: after its UDP header, or for ESP in UDP the ESP packet."""

    source: str
    source_port: int
    destination_port: int
    payload: bytes


class OpenedPackets:
    """UDP to the group, in and out, headers and all. What is read has passed the policies of the kernel's IPsec, what
    is written has to. It never blocks. Raises `Refused`."""

    def __init__(self, group: GroupDescription, interface_address: str) -> None:
        attempt = Attempt(RAW, group.address, 0, interface_address)
        self._interface = interface_with(attempt)
        self._destination = self._interface.socket_address(group.address, 0)
        self._checksum = inner_checksum(interface_address, group.address)
        self.version = 4 if self._checksum is None else 6
        with attempt.explained():
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
            self.socket = socket.socket(self._interface.family, kind, socket.IPPROTO_UDP)
        try:
            with attempt.explained():
                attach(self.socket, nothing())
                self._interface.pin(self.socket, group.ttl or 1, loop=False)
                self._set_options()
                self.socket.bind(self._destination)
            for source in group.sources or ("",):
                self._interface.join(self.socket, Attempt("join", group.address, 0, interface_address, source))
        except BaseException:
            self.socket.close()
            raise

    def _set_options(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_SIZE)
        # What is too long is refused rather than cut.
        if self.version == 4:
            self.socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, _PMTUDISC_DO)
        else:
            self.socket.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, _PMTUDISC_DO)

    def fileno(self) -> int:
        return self.socket.fileno()

    def show(self, program: bytes) -> None:
        """Only what this filter (`mcsa.xfrm.filters`) lets through."""
        attach(self.socket, program)

    def obey(self, policies: Iterable[KernelPolicy]) -> None:
        """These of this socket's own, one in each direction, in place of the host's. `OSError`."""
        level, option = (socket.IPPROTO_IP, _IP_XFRM_POLICY)
        if self.version == 6:
            level, option = (socket.IPPROTO_IPV6, _IPV6_XFRM_POLICY)
        for policy in policies:
            self.socket.setsockopt(level, option, policy.encode_for_socket())

    def receive(self) -> Opened | None:
        """The next datagram; None where none waits."""
        while True:
            try:
                datagram, source = self.socket.recvfrom(_LARGEST_DATAGRAM)
            except OSError:
                return None
            if self.version == 4:
                datagram = datagram[(datagram[0] & 0xF) * 4 :]
            if len(datagram) >= _HEADER.size:
                source_port, destination_port, _, _ = _HEADER.unpack_from(datagram)
                return Opened(canonical(source[0]), source_port, destination_port, datagram[_HEADER.size :])

    def send(self, payload: bytes, source_port: int, destination_port: int) -> None:
        """One datagram to the group, sealed by the kernel. `OSError`: EPERM where nothing may be sent now."""
        header = _HEADER.pack(source_port, destination_port, _HEADER.size + len(payload), 0)
        if self._checksum is not None:
            header = header[:UDP_CHECKSUM_AT] + self._checksum.of(header, payload)
        self.socket.sendmsg((header, payload), self._interface.ancillary, 0, self._destination)

    def close(self) -> None:
        """May be called twice."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def attach(door: socket.socket, program: bytes) -> None:
    """A classic BPF program, in place of the one before. struct sock_fprog: instructions, pointer to them."""
    memory = ctypes.create_string_buffer(program, len(program))
    door.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(memory))
    )


class Encapsulated(NamedTuple):
    """An ESP packet, and where the network claims that it is from."""

    source: str
    packet: bytes


class OuterSocket:
    """What joins the group, in either wire form. With ESP in UDP it hands the kernel's IPsec what is ESP (RFC 3948),
    and shows nothing; as IP protocol 50 the kernel takes the packets itself, and it shows what the filter lets through.
    """

    def __init__(self, joined: GroupSocket, *, in_udp: bool) -> None:
        self._joined = joined
        joined.socket.setblocking(False)
        self._has_header = joined.socket.family == socket.AF_INET
        attach(joined.socket, nothing())
        if in_udp:
            joined.socket.setsockopt(socket.IPPROTO_UDP, _UDP_ENCAP, _UDP_ENCAP_ESPINUDP)
            if joined.socket.family == socket.AF_INET6:  # the kernel writes none around ESP (RFC 6935)
                joined.socket.setsockopt(socket.IPPROTO_UDP, _UDP_NO_CHECK6_RX, 1)

    def fileno(self) -> int:
        return self._joined.fileno()

    def show(self, program: bytes) -> None:
        """Only what this filter (`mcsa.xfrm.filters`) lets through."""
        attach(self._joined.socket, program)

    def receive(self) -> Encapsulated | None:
        """The next packet; None where none waits."""
        try:
            packet, source = self._joined.socket.recvfrom(_LARGEST_DATAGRAM)
        except OSError:
            return None
        return Encapsulated(canonical(source[0]), packet[(packet[0] & 0xF) * 4 :] if self._has_header else packet)

    def close(self) -> None:
        """Leaves the group. May be called twice."""
        self._joined.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def join_group(group: GroupDescription, interface_address: str, *, in_udp: bool) -> OuterSocket:
    """Raises `Refused` where that is not to be had."""
    ttl, port = group.ttl or 1, ESP_PORT if in_udp else 0
    joined = GroupSocket(group.address, port, interface_address, group.sources, ttl, raw_esp=not in_udp)
    try:
        return OuterSocket(joined, in_udp=in_udp)
    except OSError as error:
        joined.close()
        sentence = f"The kernel takes no ESP in UDP ({error.strerror}): create the group with wire = esp."
        raise Refused(CODE, errno.errorcode.get(error.errno or 0, "kernel"), sentence) from error
