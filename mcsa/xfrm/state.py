"""A state of the kernel's IPsec: one security association, as it is told to the kernel and as it tells of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mcsa.errors import Rejected
from mcsa.esp.derive import TrafficKey
from mcsa.xfrm import layout
from mcsa.xfrm.layout import Address
from mcsa.xfrm.netlink import encode_attribute, parse_attributes

LARGEST_WINDOW = 4096  # packets: XFRMA_REPLAY_ESN_MAX
SMALL_WINDOW = 32  # the bitmap of struct xfrm_replay_state, for which the 8-bit field says the size

_XFRMA_ENCAP, _XFRMA_REPLAY_VAL, _XFRMA_SRCADDR, _XFRMA_ALG_AEAD, _XFRMA_REPLAY_ESN_VAL = 4, 10, 13, 18, 23
_UDP_ENCAP_ESPINUDP = 2  # linux/udp.h: RFC 3948
_ICV_BITS = 128
ESP_PORT = 4500  # RFC 3948 section 2
_ALGORITHMS = {  # as the kernel's crypto API spells them; each takes cipher key and salt as one key, as RFC 4106 has it
    "aes-256-gcm": b"rfc4106(gcm(aes))",
    "aes-128-gcm": b"rfc4106(gcm(aes))",
    "chacha20-poly1305": b"rfc7539esp(chacha20,poly1305)",
}
SIZE = 224  # struct xfrm_usersa_info
_CURRENT_AT = layout.SELECTOR_SIZE + layout.ID_SIZE + layout.ADDRESS_SIZE + layout.LIFETIME_SIZE


@dataclass(frozen=True, slots=True)
class KernelState:
    """A security association in transport mode that protects UDP from `source` to `destination`.

    `reqid` ties it to the policies that name the same. `replay_window` is in packets, up to 4,096; 0 for a state that
    sends. `in_udp`: UDP-encapsulated on port 4500 (RFC 3948), rather than IP protocol 50. The kernel deletes it
    `lives_for` seconds after it was made (0: never), and says so before it has sent `warn_after` packets.
    """

    source: Address
    destination: Address
    key: TrafficKey
    reqid: int
    replay_window: int
    in_udp: bool
    lives_for: int = 0
    warn_after: int | None = None

    @property
    def spi(self) -> int:
        return self.key.spi

    def encode(self) -> bytes:
        """Body of XFRM_MSG_NEWSA and XFRM_MSG_UPDSA: struct xfrm_usersa_info and its attributes.

        224 bytes: selector 56, id 24, source 16, limits 64, current values 32, statistics 12, number 4, reqid 4,
        family 2, mode, window, flags, 7 of padding. A window of more than 32 packets comes as XFRMA_REPLAY_ESN_VAL;
        without the flag XFRM_STATE_ESN that gives it to ordinary 32-bit sequence numbers too.
        """
        small = self.replay_window <= SMALL_WINDOW
        selector = layout.Selector(self.destination, self.source)
        body = (
            selector.encode()
            + layout.pack_id(self.destination, self.spi)
            + layout.pack_address(self.source)
            + layout.pack_lifetime(self.lives_for, self.warn_after)
            + b"\0" * (layout.CURRENT_SIZE + layout.STATS_SIZE + 4)
            + struct.pack(
                "=IHBBB7x",
                self.reqid,
                layout.family_of(self.destination),
                layout.MODE_TRANSPORT,
                self.replay_window if small else 0,
                0,
            )
        )
        body += encode_attribute(_XFRMA_ALG_AEAD, self._algorithm())
        if self.in_udp:
            body += encode_attribute(_XFRMA_ENCAP, _encapsulation())
        if not small:
            body += encode_attribute(_XFRMA_REPLAY_ESN_VAL, _window(self.replay_window))
        return body

    def encode_id(self) -> bytes:
        """Body of XFRM_MSG_DELSA: which one, and its source, which iproute2 adds and the kernel doesn't look at."""
        source = encode_attribute(_XFRMA_SRCADDR, layout.pack_address(self.source))
        return encode_state_id(self.destination, self.spi) + source

    def _algorithm(self) -> bytes:
        """struct xfrm_algo_aead: name 64, bits of the key with its salt, bits of the ICV, the key."""
        name = _ALGORITHMS[self.key.suite.name]
        raw = self.key.reveal()
        return struct.pack("=64sII", name, 8 * len(raw), _ICV_BITS) + raw


def encode_state_id(destination: Address, spi: int) -> bytes:
    """struct xfrm_usersa_id, 24 bytes: destination 16, SPI 4 (big-endian), family 2, protocol, 1 of padding."""
    family = struct.pack("=HBx", layout.family_of(destination), layout.ESP)
    return layout.pack_address(destination) + struct.pack("!I", spi) + family


def _encapsulation() -> bytes:
    """struct xfrm_encap_tmpl, 24 bytes: type, source and destination port (big-endian), 2 of padding, address 16."""
    return struct.pack("=H", _UDP_ENCAP_ESPINUDP) + struct.pack("!HH2x16x", ESP_PORT, ESP_PORT)


def _window(packets: int) -> bytes:
    """struct xfrm_replay_state_esn, 24 bytes and no bitmap, which the kernel makes: length of the bitmap in 32-bit
    words, two numbers sent and received, their high halves, the window in packets."""
    return struct.pack("=6I", -(-packets // 32), 0, 0, 0, 0, packets)


@dataclass(frozen=True, slots=True)
class StateReport:
    """What the kernel says of a state: `packets` that it sealed or opened, and what it dropped by cause."""

    destination: Address
    spi: int
    reqid: int
    packets: int
    too_old: int  # left of the window
    replayed: int
    forged: int  # the ICV was wrong
    sent: int  # highest sequence number sent
    is_hard: bool = False  # in an expiry: the state is gone; otherwise it has sent what it should warn of


def parse_state(body: bytes) -> StateReport:
    """Of XFRM_MSG_NEWSA, as answers to XFRM_MSG_GETSA come. `Rejected` where it is too short."""
    return _parse(body, parse_attributes(body[SIZE:]))


def parse_expiry(body: bytes) -> StateReport:
    """Of XFRM_MSG_EXPIRE: struct xfrm_user_expire, the state (224), whether it is gone (1), 7 of padding."""
    if len(body) < SIZE + 8:
        raise Rejected("netlink", "half an expiry")
    return _parse(body, {}, is_hard=body[SIZE] != 0)


def _parse(body: bytes, attributes: dict[int, bytes], *, is_hard: bool = False) -> StateReport:
    if len(body) < SIZE:
        raise Rejected("netlink", "half a state")
    at = layout.SELECTOR_SIZE
    (spi,) = struct.unpack_from("!I", body, at + layout.ADDRESS_SIZE)
    _, packets, _, _ = struct.unpack_from("=4Q", body, _CURRENT_AT)
    # the order is the structure's: left of the window, replayed, integrity
    numbers = struct.unpack_from("=3I4xIH", body, _CURRENT_AT + layout.CURRENT_SIZE)
    too_old, replayed, forged, reqid, family = numbers
    destination = layout.parse_address(body[at : at + layout.ADDRESS_SIZE], family)
    sent = 0
    if len(replay := attributes.get(_XFRMA_REPLAY_VAL, b"")) >= 4:  # struct xfrm_replay_state: sent, received, bitmap
        (sent,) = struct.unpack_from("=I", replay)
    return StateReport(destination, spi, reqid, packets, too_old, replayed, forged, sent, is_hard)
