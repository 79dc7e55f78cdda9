"""TESLA's one-way chain of keys (RFC 4082, sections 3.1 and 3.2): each is a hash of the next one.

    K_N random;  K_i = F(K_i+1), F(k) = HMAC-SHA-256(k, 0);  MAC key of interval i: F'(K_i), F'(k) = HMAC-SHA-256(k, 1)

Who has K_i has all before it and none after. Keys are 32 bytes.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from secrets import token_bytes

LENGTH = 1_024  # intervals of one chain (RFC 4082's N); a source begins another one then
KEY_SIZE = 32


def before(key: bytes) -> bytes:
    """F: the key of the interval before."""
    return hmac.digest(key, b"\x00", "sha256")


def mac_key(key: bytes) -> bytes:
    """F': what an interval's packets are authenticated with."""
    return hmac.digest(key, b"\x01", "sha256")


class KeyChain:
    """The source's own: all keys of the intervals `first` to `first + length - 1`."""

    __slots__ = ("_keys", "commitment", "first", "length")

    def __init__(self, first: int, length: int = LENGTH, random: Callable[[int], bytes] = token_bytes) -> None:
        key = random(KEY_SIZE)
        keys = [key]
        for _ in range(length):
            key = before(key)
            keys.append(key)
        self.commitment = keys.pop()
        self._keys = keys[::-1]
        self.first, self.length = first, length

    def __contains__(self, interval: object) -> bool:
        return isinstance(interval, int) and self.first <= interval < self.first + self.length

    def key_of(self, interval: int) -> bytes:
        """`KeyError` where the interval isn't the chain's."""
        if interval not in self:
            raise KeyError(interval)
        return self._keys[interval - self.first]

    def __repr__(self) -> str:
        return f"<KeyChain {self.first}>"


class DisclosedChain:
    """A source's chain as a receiver knows it: the commitment that the source signed, and the last key that was
    disclosed."""

    __slots__ = ("_key", "disclosed", "first", "length")

    def __init__(self, first: int, length: int, commitment: bytes) -> None:
        self.first, self.length = first, length
        self.disclosed = first - 1
        """The last interval whose key is known."""
        self._key = commitment

    def __contains__(self, interval: object) -> bool:
        return isinstance(interval, int) and self.first <= interval < self.first + self.length

    def steps_to(self, interval: int) -> int:
        """How many hashes `disclose` takes."""
        return max(0, interval - self.disclosed)

    def disclose(self, interval: int, key: bytes) -> dict[int, bytes] | None:
        """Takes a key over that leads to the last one; returns those that are known by it, by interval. None where it
        doesn't, so that it is no key of this source's. One of an interval that is known tells nothing new: empty."""
        found, walked = {}, key
        for each in range(interval, self.disclosed, -1):
            found[each] = walked
            walked = before(walked)
        if not found:
            return {}
        if not hmac.compare_digest(walked, self._key):
            return None
        self.disclosed, self._key = interval, key
        return found
