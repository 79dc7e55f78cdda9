"""MCSA: secure multicast conferencing. `mcsa.connect(...)` is the way in for applications."""

__version__ = "0.1.0"
