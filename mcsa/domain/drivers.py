"""Whether the hosts of a laboratory can have a driver: asked before anything is started."""

from __future__ import annotations

from mcsa.errors import Refused
from mcsa.laboratory.kind import kind
from mcsa.shell.netlink import KernelIpsec
from mcsa.shell.programs import program
from services.msm.drivers import driver_named
from services.msm.drivers.xfrm import check_kernel

WITH_ADDRESSES = ("tun", "xfrm")  # drivers under which applications use the groups' own addresses


def check_driver(name: str) -> None:
    """`Refused` with the way out where there is no such driver, or this machine lacks something for it."""
    driver_named(name)
    if name in WITH_ADDRESSES and kind().name == "loopback":
        raise Refused("driver", name, f"the driver {name} needs hosts in network namespaces: {kind().reason}")
    if name == "tun":
        program("nft", "driver")
    if name == "xfrm":
        with KernelIpsec() as ipsec:
            check_kernel(ipsec)
