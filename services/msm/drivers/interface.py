"""What a driver is to the MSM.

A driver is one module in this package with a class that satisfies `Driver` and is named in its `DRIVER`. A host has
one, for all its groups. What packets are, which keys open them and who may send is decided elsewhere (`GroupPath`, the
core): a driver moves plaintext between applications and the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from mcsa.errors import Refused
from mcsa.networks import Networks
from mcsa.plug_ins import plug_ins
from mcsa.shell.cores import Cores
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.engine import GroupEngine
from services.msm.path import GroupPath

FILES_OF_A_GROUP = 32
"""Files that have to be free for one more group: it takes 8, and more with each application; the rest is the bus's."""

Tell = Callable[[Any], None]
"""Takes events for the core (`services.msm.events`), from any thread."""


@dataclass(frozen=True, slots=True)
class DriverSettings:
    """What a host's operator decides, and how a packet path is made."""

    networks: Networks  # this host's, with its own address in each
    sockets: Path  # folder of the local sockets
    make_path: Callable[[str, GroupDescription], GroupPath] = GroupPath
    offload: bool = True
    cores: Cores = field(default_factory=Cores)  # that the threads of the packet path are pinned to
    interface: str = "mcsa0"  # name of the TUN interface
    loopback: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # by group name: see `loopback.py`


class GroupAtWork(Protocol):
    """One group that is open."""

    @property
    def socket_path(self) -> str:
        """Where this host's CSM and applications connect (`mcsa.shell.local_frames`)."""

    @property
    def engine(self) -> GroupEngine:
        """For relaying agents; `Refused("driver")` where packets don't pass through user space."""

    @property
    def largest_payload(self) -> int:
        """Bytes that reach the group in one piece, by the MTU of this host's interface; 0 where that isn't known."""

    def counters(self) -> Mapping[str, int]:
        """What was sent, opened and dropped, by cause."""

    def control(self, effect: Any) -> None:
        """An effect of the core on this group (`mcsa.path_control`); in order, none after `close`."""

    def move(self, address: str, failed: Callable[[Refused], None]) -> None:
        """The host's network has changed: leaves the group and joins it anew, on the interface that has this address
        now. `failed` is told where that can't be, from any thread."""

    def close(self) -> None:
        """Leaves the group, disconnects the applications. May be called twice."""


class Driver(Protocol):
    """All groups of one host. Raises `Refused` when it is made where the host can't have it."""

    spreads: bool
    """Whether there may be several of it on one host, each in a process of its own (`packet_processes`)."""

    def __init__(self, settings: DriverSettings) -> None: ...

    def open(self, domain: str, group: GroupDescription, tell: Tell) -> GroupAtWork:
        """Joins the group. Keys derive under `domain`. Raises `Refused` with what mends it."""

    def move(self, networks: Networks) -> None:
        """New groups are opened there from now on."""

    def close(self, staying: Collection[str] = ()) -> None:
        """After all groups are closed: what the driver has of its own goes. Nothing passes in the clear, also
        afterwards, between applications and the addresses that are `staying`: of groups that were open when this MSM
        was ended, and will be when the next one has begun."""


@cache
def drivers() -> Mapping[str, type[Driver]]:
    """All there are, by name."""
    return plug_ins(__package__, "DRIVER")


def driver_named(name: str) -> type[Driver]:
    """The driver of that name, or `Refused` with the names there are."""
    try:
        return drivers()[name]
    except KeyError:
        sentence = f"there is no driver '{name}'; there are: {', '.join(sorted(drivers()))}"
        raise Refused("driver", "unknown", sentence) from None
