"""Mode `signature`: each packet signed by its source, ECDSA on P-256 (the pattern of RFC 4359, inside of AES-GCM).

    signature, raw r || s (64 bytes) | payload

The signature is inside what the group key protects, so that outsiders can't make members verify anything (RFC 5374,
section 4.3). An insider can: 67 microseconds a packet.
"""

from __future__ import annotations

from collections.abc import Sequence

from mcsa.esp.relayed import Origin
from mcsa.source_authentication.at_once import AtOnce, SentAtOnce
from mcsa.source_authentication.interface import Block, Promises, Setting, counted
from mcsa.source_authentication.source_key import SIGNATURE_SIZE, SourceKey, SourcePublicKey
from mcsa.v1.types_pb2 import GroupPolicy

NAME = "signature"


class _Sender(SentAtOnce):
    def __init__(self, setting: Setting, key: SourceKey) -> None:
        self._setting = setting
        self._key = key

    def authenticate(self, block: Block, origins: Sequence[Origin]) -> list[bytes]:
        begin = self._setting.bind(NAME, origins[0])
        return [
            self._key.sign(begin + counted(origin.sequence, *content[:2]) + content.payload) + content.payload
            for origin, content in zip(origins, block.contents, strict=True)
        ]


class _Receiver(AtOnce):
    def __init__(self, setting: Setting, key: SourcePublicKey) -> None:
        self._setting = setting
        self._key = key

    def prove(self, origin: Origin, source_port: int, destination_port: int, raw: bytes) -> bytes | str:
        if len(raw) < SIGNATURE_SIZE:
            return "source-malformed"
        signature, payload = raw[:SIGNATURE_SIZE], raw[SIGNATURE_SIZE:]
        packet = counted(origin.sequence, source_port, destination_port)
        said = self._setting.bind(NAME, origin) + packet + payload
        return payload if self._key.verifies(signature, said) else "source-signature"


class _Signature:
    name = NAME
    title = "each packet signed by its source"
    promises = Promises(authenticates=True, explicit_signatures=True, transferable=True, delay="none")
    needs_clock = False

    def overhead(self, policy: GroupPolicy) -> int:
        return SIGNATURE_SIZE

    def check(self, policy: GroupPolicy) -> None:
        return None

    def sender(self, setting: Setting, key: SourceKey) -> _Sender:
        return _Sender(setting, key)

    def receiver(self, setting: Setting, sender_id: int, key: SourcePublicKey) -> _Receiver:
        return _Receiver(setting, key)


MODE = _Signature()
