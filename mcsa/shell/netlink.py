"""The door to the kernel's IPsec: netlink sockets of family NETLINK_XFRM (netlink(7)). Needs CAP_NET_ADMIN.

`Refused("kernel-ipsec")` says what is missing and which way out there is; what the kernel refuses of single operations
comes back, since it depends on them whether that matters.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from mcsa.errors import Refused
from mcsa.xfrm import netlink
from mcsa.xfrm.netlink import Message
from mcsa.xfrm.operations import (
    EXPIRE,
    EXPIRE_GROUP,
    Operation,
    encode_dump_of_policies,
    encode_dump_of_states,
    encode_operation,
)
from mcsa.xfrm.policy import PolicyReport, parse_policy
from mcsa.xfrm.state import StateReport, parse_expiry, parse_state

CODE = "kernel-ipsec"
_NETLINK_XFRM, _SOL_NETLINK = 6, 270  # linux/netlink.h, linux/socket.h
_ADD_MEMBERSHIP, _CAP_ACK, _EXT_ACK = 1, 10, 11  # NETLINK_*
_TOGETHER = 64  # operations in one write: their acknowledgements fit the socket's buffer
_LONGEST = 1 << 17  # bytes that one read may give; the kernel makes dumps in pieces of 32 KiB
_PATIENCE = 10.0  # seconds; the kernel answers while the request is written
WAY_OUT = 'Choose driver = "relay" or "tun" on this host'


@dataclass(frozen=True, slots=True)
class Failure:
    """What the kernel didn't do, and why: the error number and its sentence, which may be empty."""

    operation: Operation
    number: int
    sentence: str

    def __str__(self) -> str:
        return self.sentence or os.strerror(self.number)


class KernelIpsec:
    """States and policies of the network namespace in which this is made. One thread at a time."""

    def __init__(self) -> None:
        self._socket = _open()
        self._number = 0

    def carry_out(self, operations: Sequence[Operation]) -> list[Failure]:
        """One after another, whatever becomes of those before; returns those that failed."""
        failures: list[Failure] = []
        for start in range(0, len(operations), _TOGETHER):
            failures += self._carry_out(operations[start : start + _TOGETHER])
        return failures

    def _carry_out(self, operations: Sequence[Operation]) -> Iterator[Failure]:
        first = self._number + 1
        self._number += len(operations)
        requests = [encode_operation(operation, first + at) for at, operation in enumerate(operations)]
        self._socket.send(b"".join(requests))
        waiting = len(operations)
        while waiting:
            for message in self._read():
                if message.kind != netlink.ERROR or not 0 <= message.number - first < len(operations):
                    continue
                waiting -= 1
                number, sentence = netlink.parse_acknowledgement(message)
                if number:
                    yield Failure(operations[message.number - first], number, sentence)

    def states(self) -> list[StateReport]:
        """All that there are, whoever made them."""
        return [parse_state(body) for body in self._dump(encode_dump_of_states)]

    def policies(self) -> list[PolicyReport]:
        """Likewise."""
        return [parse_policy(body) for body in self._dump(encode_dump_of_policies)]

    def _dump(self, encode: Callable[[int], bytes]) -> Iterator[bytes]:
        self._number += 1
        self._socket.send(encode(self._number))
        while True:
            for message in self._read():
                if message.number != self._number:
                    continue
                if message.kind == netlink.DONE:
                    return
                if message.kind == netlink.ERROR:
                    number, sentence = netlink.parse_acknowledgement(message)
                    raise _refused(OSError(number, sentence or os.strerror(number)))
                yield message.body

    def _read(self) -> Iterator[Message]:
        return netlink.parse_messages(self._socket.recv(_LONGEST))

    def close(self) -> None:
        """What was installed stays. May be called twice."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Expiries:
    """States of this network namespace that have reached a limit. Readable when one has."""

    def __init__(self) -> None:
        self._socket = _open()
        self._socket.setblocking(False)
        try:
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, EXPIRE_GROUP)
        except OSError as error:
            self._socket.close()
            raise _refused(error) from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> list[StateReport]:
        """Those that wait; nothing where none does."""
        try:
            messages = list(netlink.parse_messages(self._socket.recv(_LONGEST)))
        except OSError:  # none waits; or there were too many to keep, and the next renewal finds who is gone
            return []
        return [parse_expiry(message.body) for message in messages if message.kind == EXPIRE]

    def close(self) -> None:
        """May be called twice."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open() -> socket.socket:
    try:
        door = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_XFRM)
    except OSError as error:
        raise _refused(error) from error
    door.settimeout(_PATIENCE)
    door.bind((0, 0))
    for option in (_CAP_ACK, _EXT_ACK):
        door.setsockopt(_SOL_NETLINK, option, 1)
    return door


def refusal(failure: Failure) -> Refused:
    """Of a failure that can't be lived with."""
    return _refused(OSError(failure.number, str(failure)))


def _refused(error: OSError) -> Refused:
    if error.errno in (errno.EPERM, errno.EACCES):
        return Refused(
            CODE,
            "CAP_NET_ADMIN",
            f"The kernel's IPsec takes the capability CAP_NET_ADMIN: give it to the MSM. {WAY_OUT}.",
        )
    if error.errno in (errno.EPROTONOSUPPORT, errno.ENOSYS, errno.EPROTOTYPE, errno.ENOPROTOOPT):
        sentence = (
            "The kernel has no IPsec with ESP for these packets, or its modules are not loaded "
            f"({error.strerror}): modprobe -a xfrm_user esp4 esp6 gcm chacha20poly1305. {WAY_OUT}."
        )
        return Refused(CODE, "no-esp", sentence)
    return Refused(CODE, "kernel", f"The kernel's IPsec refuses: {error.strerror} (errno {error.errno}). {WAY_OUT}.")
