"""The packet, network layer: ESP (RFC 4303) for groups with one derived SA per sender (design, section 7).

Pure: no sockets, no clock. `OutboundAssociation` seals, `InboundAssociations` opens; `wire` puts the result in UDP or takes
it out; `mcsa.shell.batches` moves batches through sockets.
"""
