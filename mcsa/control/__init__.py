"""Control messages of a conference over lossy multicast: signed fragments, streams, repair (design, section 9).

Pure: no sockets, no clock. `streams.ControlStreams` is the whole; `fragments` is the datagram, `reassembly` what one
sender's datagrams become, `status` what participants tell of what they have, `sending` what is repeated for whom.
"""
