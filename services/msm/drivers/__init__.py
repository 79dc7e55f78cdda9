"""Drivers: what carries a host's packets. One file each; the bytes on the wire are the same."""

from services.msm.drivers.interface import Driver, DriverSettings, GroupAtWork, driver_named, drivers

__all__ = ["Driver", "DriverSettings", "GroupAtWork", "driver_named", "drivers"]
