"""WAV files as RTP (RFC 3550, L16 of RFC 3551) through a group's local socket: `python -m mcsa.audio send|receive`.

An application like any other: it knows the MSM's local socket and nothing of what protects the group.
"""
