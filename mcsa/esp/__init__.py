"""The packet, network layer: ESP (RFC 4303) for groups with one derived SA per sender (design, section 7).

Pure: no sockets, no clock. `OutboundAssociation` seals, `InboundAssociations` opens, `wire` finds the packet in what
a socket gave; `mcsa.shell.batches` moves batches through sockets.
"""
