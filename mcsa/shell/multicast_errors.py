"""What to do when the kernel refuses a multicast socket something: a sentence, with the command that mends it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mcsa.errors import Refused

CODE = "multicast-socket"
RAW = "open a raw socket for"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was being done with a socket: "bind to", "join" or "send to" a group."""

    doing: str
    group: str
    port: int
    interface_address: str
    source: str = ""
    earlier_sources: int = 0  # that the same socket had already joined

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns an OSError inside into `Refused`; what is only busy (BlockingIOError) passes."""
        try:
            yield
        except BlockingIOError:
            raise
        except OSError as error:
            raise self.refused(error) from error

    def refused(self, error: OSError) -> Refused:
        """The refusal for an error of the kernel's. `rule` names the setting, or the kind of thing, that decided."""
        rule, way_out = self._way_out(error)
        sender = f" from {self.source}" if self.source else ""
        group = self.group or "any address"
        sentence = f"Could not {self.doing} {group}{sender}, port {self.port}, on {self.interface_address}"
        return Refused(CODE, rule, f"{sentence}: {way_out}")

    @property
    def _is_ipv6(self) -> bool:
        return ":" in self.interface_address

    def _way_out(self, error: OSError) -> tuple[str, str]:
        match error.errno:
            case errno.ENOBUFS if self.doing == "join" and self.earlier_sources:
                limit = "net.ipv6.mld_max_msf" if self._is_ipv6 else "net.ipv4.igmp_max_msf"
                return limit, (
                    f"a socket may name {self.earlier_sources} sources for a group. Raise the limit: "
                    f"sysctl -w {limit}={4 * self.earlier_sources}"
                )
            case errno.ENOMEM | errno.ENOBUFS if self.doing == "join" and self._is_ipv6:
                return "net.core.optmem_max", (
                    "this socket is in as many groups as its memory for options holds. Raise the limit: "
                    "sysctl -w net.core.optmem_max=1048576"
                )
            case errno.ENOBUFS if self.doing == "join":
                return "net.ipv4.igmp_max_memberships", (
                    "this socket is in as many groups as one may be in. Raise the limit: "
                    "sysctl -w net.ipv4.igmp_max_memberships=200"
                )
            case errno.EINVAL if self.doing == "send to" and self._is_ipv6:  # Linux's word for a source that is gone
                return "interface address", (
                    "the address was taken off, or the interface is down. Mend it: ip link set dev <interface> up; "
                    f"ip -6 address replace {self.interface_address}/64 dev <interface>"
                )
            case errno.EADDRNOTAVAIL | errno.ENODEV:
                return "interface address", (
                    "no interface of this host has that address"
                    + (", or not yet; a link-local one needs its interface too (fe80::1%eth0)" if self._is_ipv6 else "")
                    + f". See which there are: ip {'-6' if self._is_ipv6 else '-4'} address"
                )
            case errno.EADDRINUSE:
                return "port", f"another process has it. See which: ss -ulpn sport = {self.port}"
            case errno.ENETUNREACH | errno.ENETDOWN | errno.EHOSTUNREACH:
                add = "ip -6 route add multicast ff00::/8 dev <interface> table local"
                return "route", (
                    "no route leads there, or the interface is down. Mend it: ip link set dev <interface> up; "
                    + (add if self._is_ipv6 else "ip route add 224.0.0.0/4 dev <interface>")
                )
            case errno.EACCES | errno.EPERM if self.doing == RAW:
                return "CAP_NET_RAW", (
                    "ESP as IP protocol 50 takes a raw socket. Give the MSM the capability CAP_NET_RAW, or create the "
                    "group with wire = udp"
                )
            case errno.EACCES | errno.EPERM:
                return "firewall", "a packet filter of this host forbids it. See its rules: nft list ruleset"
            case errno.EMSGSIZE:
                return "datagram size", (
                    "the datagram is longer than UDP carries (65,507 bytes; over IPv6 65,527), or than the interface "
                    "takes in one piece where it must not be cut. Send smaller ones; see the interface's MTU: ip link"
                )
            case _:
                return "kernel", f"{error.strerror} (errno {error.errno})"
