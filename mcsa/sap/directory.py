"""A session directory: announces, hears, forgets. Sans-I/O (RFC 2974).

What is listed came out of the socket, our own announcements too. Everything in it is a hint: whose a session is, the
MSM finds out. What is believed, and that nobody on the network can fill, empty or overwrite the list: `cache.py`. When
an announcement is repeated: `schedule.py`. Where: `scopes.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from mcsa.errors import Refused, Rejected
from mcsa.keys import Random
from mcsa.networks import Networks
from mcsa.sap.announced import Announced, Deletion, Said, Send, deletions_of, spread
from mcsa.sap.cache import Cache
from mcsa.sap.entry import OURS, Entry, commitment_of
from mcsa.sap.packet import SapPacket, parse_packet
from mcsa.sap.schedule import Pace, Timer
from mcsa.sap.scopes import Scopes
from mcsa.sap.sdp import Sdp, parse_sdp

LEASE = 3_600.0  # seconds after which an announcement that its host hasn't asked for again is over


@dataclass(frozen=True, slots=True)
class Place:
    """Where a directory is: its networks, with its own address in each, the scopes it is within, and whether it says
    everything at 224.0.0.56 too, with bare line feeds, as what listens there wants it (PulseAudio)."""

    networks: Networks
    scopes: Scopes = Scopes()  # noqa: RUF009 - never changed
    link: bool = False


class Directory:
    """See the module."""

    def __init__(self, place: Place, random: Random, pace: Pace = Pace(), lease: float = LEASE) -> None:  # noqa: B008
        self.place = place
        self._random = random
        self._pace = pace
        self._lease = lease
        self._own: dict[bytes, Announced] = {}
        self._said: set[SapPacket] = set()
        self._deletions: list[Deletion] = []
        self.cache = Cache(pace.forget_after, self._is_own)

    # ---- announcing

    def announce(self, sdp: bytes, now: float, host: str = "") -> tuple[int, list[Send]]:
        """Announces a description from now on to its end; its hash. Asked for again it only goes on.

        Raises `Rejected` as `parse_sdp`, "expired", "withdrawn", "stale" (not newer than another text of the session
        that is announced), "scope" (IPv6, without an address of it).
        """
        known = self._own.get(sdp)
        if known is not None:
            known.asked_at = now
            return known.packet.hash, []
        parsed = parse_sdp(sdp)
        if parsed.end and parsed.end <= now:
            raise Rejected("expired", parsed.title[:40])
        if self.cache.is_withdrawn(parsed):
            raise Rejected("withdrawn", parsed.title[:40])
        earlier = self._earlier(parsed, host)
        own = self._own[sdp] = self._made(sdp, parsed, host, now)
        self._said.update(said.packet for said in own.says)
        self.cache.refile(sdp)
        sends = [] if earlier is None else self._stop(earlier, b"", now)
        return own.packet.hash, [*sends, *self._say(own, now)]

    def _earlier(self, parsed: Sdp, host: str) -> Announced | None:
        """Another text of the same session by the same host, which the new one takes the place of (RFC 2974 section 5:
        a modified session is simply announced)."""
        for own in self._own.values():
            if own.parsed.session == parsed.session and own.host == host:
                if parsed.version <= own.parsed.version:
                    raise Rejected("stale", parsed.title[:40])
                return own
        return None

    def _made(self, sdp: bytes, parsed: Sdp, host: str, now: float) -> Announced:
        says: list[Said] = []
        taken = {packet.hash for packet in self._said}
        for origin, (network, address) in self._networks_of(parsed).items():
            link = self.place.link and ":" not in origin
            says += spread(sdp, network, origin, self.place.scopes.of(address).address, taken, link=link)
        return Announced(sdp, parsed, host, says, Timer(now, 0.0, now), announced_at=now, asked_at=now)

    def _networks_of(self, parsed: Sdp) -> dict[str, tuple[str, str]]:
        """Those that its groups belong to, as far as the directory is in them: by own address there the network, and
        the group whose scope counts in it: the first one. `Rejected("scope")` where it is in none of them."""
        found: dict[str, tuple[str, str]] = {}
        refusal: Refused | None = None
        for media in parsed.media:
            try:
                network = self.place.networks.of(media.address)
            except Refused as refused:
                refusal = refused
            else:
                found.setdefault(network.source, (self.place.networks.name_of(media.address), media.address))
        if refusal is not None and not found:
            raise Rejected("scope", refusal.sentence)
        return found

    def withdraw(self, sdp: bytes, secret: bytes, now: float) -> list[Send]:
        """Stops announcing, and says so a few times, with the preimage that makes others believe it.

        What is not announced (any more) is withdrawn all the same, where the secret is its own. Without a secret it is
        only announced no longer. Raises `Rejected("secret")` where it is another's.
        """
        own = self._own.get(sdp)
        if own is None:
            own = self._made(sdp, parse_sdp(sdp), "", now)
            if not secret or own.commitment is None:
                return []
        if secret and own.commitment is not None:
            if commitment_of(secret) != own.commitment:
                raise Rejected("secret", "not the preimage of its commitment")
            sends = self._stop(own, secret, now)
            self.cache.withdraw(own.commitment, own_source=self._source(own))
            return sends
        return self._stop(own, b"", now)

    def _stop(self, own: Announced, secret: bytes, now: float) -> list[Send]:
        self._forget(own)
        first, rest = deletions_of(own, secret, now)
        self._deletions += rest
        return first

    def _forget(self, own: Announced) -> None:
        self._own.pop(own.sdp, None)
        self._said.difference_update(said.packet for said in own.says)
        self.cache.refile(own.sdp)

    def announced(self) -> list[Announced]:
        """What is announced now, in the order of asking."""
        return list(self._own.values())

    def find_announced(self, sdp: bytes) -> Announced | None:
        """What is announced under this text."""
        return self._own.get(sdp)

    def go_on(self, sdp: bytes, host: str, announced_at: float, asked_at: float, now: float) -> None:
        """After a restart, with what an earlier process announced. Raises `Rejected` as `announce`.

        It is not said at once: all would be said together, and it was said a while ago.
        """
        _, _ = self.announce(sdp, now, host)
        own = self._own[sdp]
        own.announced_at, own.asked_at = min(announced_at, now), min(asked_at, now)

    # ---- time

    def due(self, now: float) -> list[Send]:
        """Announcements whose time has come, and deletions to be said again; what has ended is forgotten."""
        self.cache.expire(now)
        for own in list(self._own.values()):
            if own.has_ended(now, self._lease):
                self._forget(own)
        sends = [
            send
            for own in self._own.values()
            if own.timer.is_due(partial(self._interval, own), now)
            for send in self._say(own, now)
        ]
        said = [deletion for deletion in self._deletions if now >= deletion.at or deletion.at > now + self._lease]
        self._deletions = [deletion for deletion in self._deletions if deletion not in said]
        return sends + [deletion.send for deletion in said]

    def wake_at(self) -> float | None:
        """When `due` is wanted."""
        times = [min(own.timer.at, own.ends_at, own.asked_at + self._lease) for own in self._own.values()]
        times += [deletion.at for deletion in self._deletions]
        expires_at = self.cache.expires_at()
        return min(times if expires_at is None else [*times, expires_at], default=None)

    def _say(self, own: Announced, now: float) -> list[Send]:
        own.timer = Timer(now, int.from_bytes(self._random(2), "big") / 65_536, now)
        own.timer.reckon(self._interval(own))
        return [said.send(said.packet) for said in own.says]

    def _interval(self, own: Announced) -> float:
        """By what is announced in its scope, ours at least, and by how many others say the same."""
        address = own.says[0].address
        ours = sum(each.says[0].address == address for each in self._own.values())
        others = self.cache.announcers(own.commitment, own.sdp) - {said.packet.origin for said in own.says}
        return self._pace.interval(max(ours, self.cache.count(address)), own.size, 1 + len(others))

    # ---- hearing

    def arrived(self, raw: bytes, source: str, group: str, now: float) -> None:
        """A datagram, to the SAP address `group`. Raises `Rejected` as `parse_packet`, `parse_sdp`, `Cache.hear` and
        `Cache.delete`."""
        if self.cache.hear_again(raw, source, group, now):
            return
        packet = parse_packet(raw)
        if packet.deletion:
            self.cache.delete(packet, source)
            return
        entry = Entry(packet, source, parse_sdp(packet.payload), raw, now, now, groups={group})
        self.cache.hear(entry, now)

    def sessions(self, now: float) -> list[Entry]:
        """In the order of their first hearing."""
        return self.cache.sessions(now)

    def clashes(self, sdp: bytes, now: float) -> list[Entry]:
        """Other sessions, as far as they were heard, that use an address of this one's."""
        parsed = parse_sdp(sdp)
        ours = parsed.attribute(OURS)
        return [
            entry
            for entry in self.cache.using(parsed.addresses(), now)
            if entry.sdp.session != parsed.session and (ours is None or entry.sdp.attribute(OURS) != ours)
        ]

    def _source(self, own: Announced) -> str:
        return own.packet.origin

    def _is_own(self, packet: SapPacket, source: str) -> bool:
        """One entry for each of ours: as it was sent from here."""
        return source == packet.origin and packet in self._said
