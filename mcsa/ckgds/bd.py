"""Burmester & Desmedt (EUROCRYPT 1994): a conference key in two broadcast rounds.

Parties sit in a ring. Written additively, over the group of `group.py`:

    round 1   each says  z_i = x_i G
    round 2   each says  X_i = x_i (z_{i+1} - z_{i-1}),  with a proof that it is the same x_i
    key       K = (x_0 x_1 + x_1 x_2 + ... + x_{n-1} x_0) G

In two rounds of broadcasts everybody contributes, and each pays two multiplications and additions. The proofs, and that
all X_i sum to nothing, find whoever says a wrong X_i: without them one party makes the others' keys differ, unseen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mcsa.ckgds.group import (
    ELEMENT_SIZE,
    IDENTITY,
    PROOF_SIZE,
    SCALAR_SIZE,
    add,
    check_element,
    check_equality,
    draw_scalar,
    multiply,
    multiply_base,
    parse_scalar,
    prove_equality,
    subtract,
)
from mcsa.ckgds.interface import Payloads, Promises
from mcsa.errors import Rejected
from mcsa.keys import Random


class RingParty:
    """One party."""

    def __init__(self, index: int, size: int, context: bytes, random: Random) -> None:
        self._index = index
        self._size = size
        self._context = context
        self._random = random
        self._exponent = draw_scalar(random)
        self._ours = multiply_base(self._exponent)
        self._elements = {index: self._ours}
        self._differences: dict[int, bytes] = {}

    def speak(self, round_number: int) -> bytes:
        """See `interface.Party.speak`."""
        if round_number == 1:
            return self._ours
        base = _between(self._elements, self._index, self._size)
        difference = multiply(self._exponent, base)
        self._differences[self._index] = difference
        context = _proof_context(self._context, self._index)
        return difference + prove_equality(self._exponent, base, context, self._random)

    def hear(self, round_number: int, index: int, payload: bytes) -> None:
        """See `interface.Party.hear`."""
        heard = self._elements if round_number == 1 else self._differences
        heard[index] = payload[:ELEMENT_SIZE]

    def secret(self) -> bytes:
        """n x_i z_{i-1} + (n-1) X_i + (n-2) X_{i+1} + ... + X_{i-2}: the same for all."""
        size, index = self._size, self._index
        if size == 1:
            return multiply(self._exponent, self._ours)
        total = multiply(size * self._exponent, self._elements[(index - 1) % size])
        partial = IDENTITY
        for step in range(size - 1):  # the sum of the partial sums has the falling factors
            partial = add(partial, self._differences[(index + step) % size])
            total = add(total, partial)
        return total

    def reveal(self) -> bytes:
        """x_i, 32 bytes."""
        return self._exponent.to_bytes(SCALAR_SIZE, "little")


class BurmesterDesmedt:
    """The plug-in."""

    name = "bd"
    title = "Burmester & Desmedt, EUROCRYPT 1994"
    promises = Promises(
        contributory=True,
        forward_secrecy=True,
        openable=True,
        rounds="2",
        cost="2n broadcasts; each: 4 multiplications, n - 1 proofs checked, 2n additions",
    )

    def rounds(self, size: int) -> int:
        """Two, or none where nobody else is there."""
        return 0 if size == 1 else 2

    def speakers(self, round_number: int, size: int) -> Collection[int]:
        """Everybody."""
        return range(size)

    def start(self, index: int, size: int, context: bytes, random: Random) -> RingParty:
        """See `interface.Scheme.start`."""
        return RingParty(index, size, context, random)

    def check(self, round_number: int, index: int, size: int, context: bytes, heard: Payloads) -> None:
        """See `interface.Scheme.check`."""
        payload = heard[round_number, index]
        if round_number == 1:
            check_element(payload)  # who echoes another's fails in round 2, where the exponent has to be known
            return
        if len(payload) != ELEMENT_SIZE + PROOF_SIZE:
            raise Rejected("malformed", "round 2")
        difference, proof = payload[:ELEMENT_SIZE], payload[ELEMENT_SIZE:]
        elements = {other: heard[1, other] for other in range(size)}
        base = _between(elements, index, size)
        if base != IDENTITY:
            check_element(difference)
        elif difference != IDENTITY:
            raise Rejected("invalid-element")
        check_equality(proof, elements[index], base, difference, _proof_context(context, index))

    def judge(self, size: int, context: bytes, heard: Payloads, opened: Mapping[int, bytes]) -> dict[int, str]:
        """Whose messages are not those of the exponent that it opened. Proofs leave little to find."""
        cheaters: dict[int, str] = {}
        for index, raw in opened.items():
            try:
                exponent = parse_scalar(raw)
                if multiply_base(exponent) != heard[1, index]:
                    raise Rejected("wrong-opening")
            except (Rejected, KeyError) as error:
                cheaters[index] = error.cause if isinstance(error, Rejected) else "wrong-opening"
        return cheaters


def _between(elements: Mapping[int, bytes], index: int, size: int) -> bytes:
    return subtract(elements[(index + 1) % size], elements[(index - 1) % size])


def _proof_context(context: bytes, index: int) -> bytes:
    return context + index.to_bytes(4, "big")


SCHEME = BurmesterDesmedt()
