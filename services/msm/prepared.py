"""Registrations that were prepared: statements that a user is to sign, each with the fresh key that it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcsa.endpoint import Answer, Requested
from mcsa.errors import Refused
from mcsa.keys import Random
from mcsa.sealing import SealingKey
from mcsa.v1 import authorizer_pb2 as authorizer_wire
from mcsa.v1.msm_pb2 import PrepareJoinRequest, PrepareJoinResponse

STATEMENT_FOR = 30.0  # seconds that a user's statement holds
PREPARED_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class _Prepared:
    key: SealingKey
    expires_at: float


class Prepared:
    """Of this `host`, a SPIFFE ID. Each is good once."""

    def __init__(self, host: str, random: Random, hpke_suite: str) -> None:
        """`hpke_suite`: where nothing else is asked for."""
        self._host = host
        self._random = random
        self._hpke_suite = hpke_suite
        self._kept: dict[bytes, _Prepared] = {}

    def prepare(self, request: Requested, now: float) -> list[Any]:
        """`PrepareJoinRequest`: the answer has the statement to sign."""
        message: PrepareJoinRequest = request.message
        self._kept = {text: kept for text, kept in self._kept.items() if now < kept.expires_at}
        if len(self._kept) >= PREPARED_AT_ONCE:
            raise Refused("too-many", "prepared-joins", "too many joins were prepared and not finished; wait a minute")
        key = SealingKey.generate(message.hpke_suite or self._hpke_suite)
        statement = authorizer_wire.UserStatement(
            host=self._host,
            hpke_public_key=key.public,
            group_id=message.group_id,
            authorizer=message.authorizer,
            nonce=self._random(16),
            expires_ms=round((now + STATEMENT_FOR) * 1000),
            send_only=message.send_only,
        ).SerializeToString()
        self._kept[statement] = _Prepared(key, now + STATEMENT_FOR)
        return [Answer(request.token, PrepareJoinResponse(statement=statement))]

    def take(self, statement: bytes, now: float) -> SealingKey:
        """The key that this statement is about; `Refused` where it was none of ours, or is too old."""
        prepared = self._kept.pop(statement, None)
        if prepared is None or now >= prepared.expires_at:
            sentence = "the statement is not one that this host prepared in the last half minute; prepare again"
            raise Refused("user-statement", "prepared", sentence)
        return prepared.key
