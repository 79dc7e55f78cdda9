"""A trusted party distributes (paper, section 2.1): the Coordinator draws the key and seals it to each participant.

    round 1   each but the Coordinator says a fresh HPKE public key
    round 2   the Coordinator says the key, sealed to each of them

Who trusts the Coordinator with the key trusts it with the conference anyway; who wants every participant to contribute
takes another scheme. The Authorizer is never the trusted party.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mcsa.ckgds.interface import Payloads, Promises
from mcsa.encoding import encode_parts
from mcsa.errors import Rejected
from mcsa.keys import KEY_SIZE, Random
from mcsa.sealing import DEFAULT_SUITE, SealingKey, check_public_key, seal_to

LABEL = "mcsa central key v1"
PUBLIC_SIZE = 32  # X25519
SEALED_SIZE = 32 + KEY_SIZE + 16  # encapsulated key, key, tag (RFC 9180)


class Distributor:
    """The Coordinator."""

    def __init__(self, size: int, context: bytes, random: Random) -> None:
        self._size = size
        self._context = context
        self._key = random(KEY_SIZE)
        self._public: dict[int, bytes] = {}

    def speak(self, round_number: int) -> bytes:
        """The key for each of the others, in their order."""
        return b"".join(
            seal_to(DEFAULT_SUITE, self._public[index], self._key, _info(self._context, index))
            for index in range(1, self._size)
        )

    def hear(self, round_number: int, index: int, payload: bytes) -> None:
        """A participant's public key."""
        if round_number == 1:
            self._public[index] = payload

    def secret(self) -> bytes:
        """The key."""
        return self._key

    def reveal(self) -> bytes:
        """The key, which protects nothing any more."""
        return self._key


class Recipient:
    """A participant."""

    def __init__(self, index: int, context: bytes, random: Random) -> None:
        self._index = index
        self._context = context
        private = X25519PrivateKey.from_private_bytes(random(KEY_SIZE))
        self._key = SealingKey(DEFAULT_SUITE, private, private.public_key().public_bytes_raw())
        self._private = private
        self._sealed = b""

    def speak(self, round_number: int) -> bytes:
        """A fresh public key."""
        return self._key.public

    def hear(self, round_number: int, index: int, payload: bytes) -> None:
        """Our part of what the Coordinator said."""
        if round_number == 2:
            self._sealed = _part(payload, self._index)

    def secret(self) -> bytes:
        """The key; `Rejected("wrong-ciphertext")` where what we were sent doesn't open."""
        try:
            return self._key.open(self._sealed, _info(self._context, self._index))
        except Rejected:
            raise Rejected("wrong-ciphertext", "from the Coordinator") from None

    def reveal(self) -> bytes:
        """The private key, fresh to this run."""
        return self._private.private_bytes_raw()


class Central:
    """The plug-in."""

    name = "central"
    title = "a trusted party, the Coordinator, distributes"
    promises = Promises(
        contributory=False,
        forward_secrecy=True,
        openable=True,
        rounds="2",
        cost="n broadcasts; the Coordinator n - 1 sealings, the others one opening",
    )

    def rounds(self, size: int) -> int:
        """Two, or none where nobody else is there."""
        return 0 if size == 1 else 2

    def speakers(self, round_number: int, size: int) -> Collection[int]:
        """First the others, then the Coordinator."""
        return range(1, size) if round_number == 1 else (0,)

    def start(self, index: int, size: int, context: bytes, random: Random) -> Distributor | Recipient:
        """See `interface.Scheme.start`."""
        return Distributor(size, context, random) if index == 0 else Recipient(index, context, random)

    def check(self, round_number: int, index: int, size: int, context: bytes, heard: Payloads) -> None:
        """See `interface.Scheme.check`."""
        payload = heard[round_number, index]
        if round_number == 2:
            if len(payload) != SEALED_SIZE * (size - 1):
                raise Rejected("malformed", "round 2")
            return
        try:
            if len(payload) != PUBLIC_SIZE:
                raise Rejected("suite")
            check_public_key(DEFAULT_SUITE, payload)
        except Rejected:
            raise Rejected("invalid-element", "not a public key") from None

    def judge(self, size: int, context: bytes, heard: Payloads, opened: Mapping[int, bytes]) -> dict[int, str]:
        """A participant that opens another key than it said; the Coordinator, where parts don't open or differ."""
        cheaters: dict[int, str] = {}
        keys: set[bytes] = set()
        for index, raw in opened.items():
            if index == 0:
                continue
            try:
                private = X25519PrivateKey.from_private_bytes(raw)
            except ValueError:
                cheaters[index] = "wrong-opening"
                continue
            public = private.public_key().public_bytes_raw()
            if public != heard.get((1, index)):
                cheaters[index] = "wrong-opening"
                continue
            try:
                part = _part(heard[2, 0], index)
                keys.add(SealingKey(DEFAULT_SUITE, private, public).open(part, _info(context, index)))
            except (Rejected, KeyError):
                cheaters[0] = "wrong-ciphertext"
        if len(keys) > 1:
            cheaters[0] = "wrong-ciphertext"
        elif 0 not in cheaters and keys and 0 in opened and opened[0] not in keys:
            cheaters[0] = "wrong-opening"
        return cheaters


def _part(payload: bytes, index: int) -> bytes:
    return payload[(index - 1) * SEALED_SIZE : index * SEALED_SIZE]


def _info(context: bytes, index: int) -> bytes:
    return encode_parts(LABEL, context, index)


SCHEME = Central()
