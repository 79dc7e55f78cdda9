"""The kernel's IPsec as bytes: netlink messages that make, change and delete its states and policies, and its answers.

Pure: `mcsa.shell.netlink` carries them. Layouts are those of Linux, include/uapi/linux/xfrm.h and netlink.h, in the
machine's own byte order but for what the network sees (addresses, ports, SPIs). A *state* is a security association
as the kernel has it, a *policy* says which packets need one.
"""
