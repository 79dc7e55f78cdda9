"""What is asked of the kernel, one by one, and how each is said on netlink."""

from __future__ import annotations

from dataclasses import dataclass

from mcsa.xfrm import netlink
from mcsa.xfrm.policy import KernelPolicy, PolicyReport
from mcsa.xfrm.state import KernelState, StateReport, encode_state_id

NEWSA, DELSA, GETSA, DELPOLICY, GETPOLICY = 0x10, 0x11, 0x12, 0x14, 0x15  # XFRM_MSG_*
EXPIRE, UPDPOLICY, UPDSA = 0x18, 0x19, 0x1A
EXPIRE_GROUP = 2  # XFRMNLGRP_EXPIRE


@dataclass(frozen=True, slots=True)
class AddState:
    """Fails where a state of this destination and SPI is there."""

    state: KernelState


@dataclass(frozen=True, slots=True)
class RenewState:
    """Changes its limits; sequence numbers and window stay."""

    state: KernelState


@dataclass(frozen=True, slots=True)
class DeleteState:
    """Fails where it isn't there."""

    state: KernelState


@dataclass(frozen=True, slots=True)
class SetPolicy:
    """Makes it, or replaces the one with the same direction and selector in one step."""

    policy: KernelPolicy


@dataclass(frozen=True, slots=True)
class DeletePolicy:
    """Fails where it isn't there."""

    policy: KernelPolicy


@dataclass(frozen=True, slots=True)
class DeleteReported:
    """Deletes what a dump has shown, a state or a policy."""

    report: StateReport | PolicyReport


Operation = AddState | RenewState | DeleteState | SetPolicy | DeletePolicy | DeleteReported


def encode_operation(operation: Operation, number: int) -> bytes:
    """The request, numbered, to be acknowledged."""
    kind, body = _parts(operation)
    return netlink.encode_message(kind, netlink.REQUEST | netlink.ACKNOWLEDGE, number, body)


def _parts(operation: Operation) -> tuple[int, bytes]:
    match operation:
        case AddState(state):
            return NEWSA, state.encode()
        case RenewState(state):
            return UPDSA, state.encode()
        case DeleteState(state):
            return DELSA, state.encode_id()
        case SetPolicy(policy):
            return UPDPOLICY, policy.encode()
        case DeletePolicy(policy):
            return DELPOLICY, policy.encode_id()
        case DeleteReported(StateReport() as state):
            return DELSA, encode_state_id(state.destination, state.spi)
        case DeleteReported(PolicyReport() as policy):
            return DELPOLICY, policy.id
    raise TypeError(operation)


def encode_dump_of_states(number: int) -> bytes:
    """Asks for all states of this network namespace."""
    return netlink.encode_message(GETSA, netlink.REQUEST | netlink.DUMP, number, b"")


def encode_dump_of_policies(number: int) -> bytes:
    """Asks for all policies."""
    return netlink.encode_message(GETPOLICY, netlink.REQUEST | netlink.DUMP, number, b"")
