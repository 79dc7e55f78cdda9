"""Mode `none`: group authentication only. Any member can say anything in any other's name."""

from __future__ import annotations

from collections.abc import Sequence

from mcsa.esp.relayed import Origin
from mcsa.source_authentication.at_once import AtOnce, SentAtOnce
from mcsa.source_authentication.interface import Block, Promises, Setting
from mcsa.source_authentication.source_key import SourceKey, SourcePublicKey
from mcsa.v1.types_pb2 import GroupPolicy


class _Sender(SentAtOnce):
    def authenticate(self, block: Block, origins: Sequence[Origin]) -> list[bytes]:
        return [content.payload for content in block.contents]


class _Receiver(AtOnce):
    def prove(self, origin: Origin, source_port: int, destination_port: int, raw: bytes) -> bytes | str:
        return raw


class _None:
    name = "none"
    title = "group authentication only"
    promises = Promises(authenticates=False, explicit_signatures=False, transferable=False, delay="none")
    needs_clock = False

    def overhead(self, policy: GroupPolicy) -> int:
        return 0

    def check(self, policy: GroupPolicy) -> None:
        return None

    def sender(self, setting: Setting, key: SourceKey) -> _Sender:
        return _Sender()

    def receiver(self, setting: Setting, sender_id: int, key: SourcePublicKey) -> _Receiver:
        return _Receiver()


MODE = _None()
