"""Two domains on one multicast network: two authorities, buses, Authorizers, directories; each knows the other as peer.

Conferences are at home in A. B's hosts take part through B's own Authorizer.
"""

from __future__ import annotations

from services.authorizer.conference import Conference
from services.msm.gpad import Accepted
from tests.simulation.conference import ConferenceDomain
from tests.simulation.network import START, Network, Weather
from tests.world import World


class TwoDomains:
    """See the module."""

    def __init__(
        self,
        seed: int = 1,
        weather: Weather | None = None,
        hosts_a: tuple[str, ...] = ("alpha",),
        hosts_b: tuple[str, ...] = ("beta",),
        *,
        subordinate: bool = False,
    ) -> None:
        """`subordinate`: B's Authorizer keys A's groups for B's hosts."""
        self.network = Network(seed, weather)
        a, b = World("a.example", START), World("b.example", START)
        a.peers.append(b)
        b.peers.append(a)
        through = Accepted("spiffe://a.example/authorizer/*", "239.255.0.0/16", str(b.authorizer.id))
        subordinates = (str(b.authorizer.id),) if subordinate else ()
        self.a = ConferenceDomain(seed, None, hosts_a, a, self.network, subordinates=subordinates)
        homes = {str(a.authorizer.id): self.a.switchboard} if subordinate else {}
        self.b = ConferenceDomain(seed + 1, None, hosts_b, b, self.network, "203.0.113", [through], homes)
        self.b.directory.hear(self.a.directory)

    def tell_b_of(self, conference_id: bytes) -> Conference:
        """B's Authorizer learns of a conference of A, as a subordinate will; it has none of its groups."""
        conference = Conference.restored([self.a.authorizer.core.conferences[conference_id].record()])
        assert conference is not None
        self.b.authorizer.core.conferences[conference_id] = conference
        return conference

    def serve_in_b(self, conference_id: bytes) -> None:
        """B's Authorizer keys the conference's groups for B's hosts. As it isn't a subordinate yet, it draws keys of
        its own: B's hosts hear one another only."""
        conference = self.tell_b_of(conference_id)
        node, now = self.b.authorizer, self.network.now
        node.perform(node.endpoint.carry_out(node.core._kept.create(conference, now), now))
        self.network.run_for(0.5)
