"""A small domain for tests: one authority, and credentials for whoever is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cached_property

from mcsa.authority import CertificationAuthority
from mcsa.identity import Credentials
from mcsa.trust import Trust

NOW = 1_800_000_000.0  # 2027-01-15; tests have no clock


class World:
    """Names, certificates and trust of one domain."""

    def __init__(self, domain: str = "example.org", now: float = NOW) -> None:
        self.domain = domain
        self.now = now
        self.peers: list[World] = []
        self.authority = CertificationAuthority.create(domain, now)
        self._issued: dict[tuple[str, str], Credentials] = {}

    def credentials(self, kind: str, name: str) -> Credentials:
        """The same for the same name."""
        if (kind, name) not in self._issued:
            self._issued[kind, name] = self.authority.issue(kind, name, self.now)
        return self._issued[kind, name]

    def lend(self, kind: str, name: str, of: World) -> None:
        """That name is from now on somebody of another domain."""
        self._issued[kind, name] = of.credentials(kind, name)

    def host(self, name: str) -> Credentials:
        return self.credentials("host", name)

    def user(self, name: str) -> Credentials:
        return self.credentials("user", name)

    @cached_property
    def authorizer(self) -> Credentials:
        return self.credentials("authorizer", "main")

    @cached_property
    def directory(self) -> Credentials:
        return self.credentials("directory", "sd")

    def trust(self) -> Trust:
        """A fresh one, with the domain's anchor, and those of its peers."""
        peers = {peer.domain: [peer.authority.certificate] for peer in self.peers}
        return Trust(self.domain, [self.authority.certificate], peers)


def seeded(seed: int) -> Callable[[int], bytes]:
    """Random bytes that are the same for the same seed."""
    return random.Random(seed).randbytes
