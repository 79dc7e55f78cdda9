"""Super-packets: UDP datagrams of one stream and one size in one piece, as a TUN interface hands them over and takes
them where it does segmentation offload (`struct virtio_net_hdr`, linux/virtio_net.h).

    flags (1) | gso_type (1) | header length (2) | gso_size (2) | checksum start (2) | checksum offset (2)
    | IP header | UDP header | payloads one after another, each of gso_size, the last one perhaps shorter

Numbers are in the machine's order. Every packet at such an interface has these ten bytes in front.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

from mcsa.esp.ip import LARGEST_IP, Buffer, headers_size, write_headers

VNET_HEADER = struct.Struct("=BBHHHH")
VNET_HEADER_SIZE = VNET_HEADER.size
_NEEDS_CHECKSUM = 1  # VIRTIO_NET_HDR_F_NEEDS_CSUM
GSO_NONE = 0  # VIRTIO_NET_HDR_GSO_NONE
GSO_UDP_L4 = 5  # VIRTIO_NET_HDR_GSO_UDP_L4, Linux 6.2
_CHECKSUM_OFFSET = 6  # of the checksum in the UDP header
MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS of Linux before 6.9 (linux/udp.h); later ones take 128


@lru_cache(maxsize=64)
def _payloads(size: int, count: int, rest: int) -> struct.Struct:
    return struct.Struct(f"{size}s" * count + (f"{rest}s" if rest else ""))


def split(packet: Buffer, start: int, end: int, segment_size: int) -> Sequence[bytes]:
    """The payloads that lie in `packet[start:end]`; `segment_size` 0 where it is one."""
    if not segment_size or end - start <= segment_size:
        return (bytes(packet[start:end]),)
    return _payloads(segment_size, *divmod(end - start, segment_size)).unpack_from(packet, start)


def most_segments(address: bytes, payload_size: int) -> int:
    """How many payloads of so many bytes one super-packet carries; 1 for an empty one."""
    if not payload_size:
        return 1
    return max(1, min(MAX_SEGMENTS, (LARGEST_IP - headers_size(address)) // payload_size))


@lru_cache(maxsize=1024)
def write_super_headers(
    source: bytes,
    destination: bytes,
    source_port: int,
    destination_port: int,
    traffic_class: int,
    hop_limit: int,
    payload_size: int,
    segment_size: int,
) -> bytes:
    """All that goes before the payloads, which have `payload_size` bytes together; `segment_size` 0 where it is one."""
    headers = write_headers(source, destination, source_port, destination_port, traffic_class, hop_limit, payload_size)
    kind, size = (GSO_UDP_L4, len(headers)) if segment_size else (GSO_NONE, 0)
    checksum_start = len(headers) - 8
    return VNET_HEADER.pack(_NEEDS_CHECKSUM, kind, size, segment_size, checksum_start, _CHECKSUM_OFFSET) + headers
