"""GKMP, Harney & Muckenhirn (RFC 2093, RFC 2094), in essence.

The group controller (our Authorizer) and the first member make the group keys together: GTEK, which protects
traffic, and GKEK, which protects rekeys (RFC 2093, 4.1). With each further member the controller makes a session KEK
(4.2), under which the member downloads both. A rekey is one message under the GKEK (4.3). Where somebody leaves, GTEK
and GKEK are both burned and a new group is made of those that stay (RFC 2094, 4.8): one part for each, under its
session KEK.

Each rekey replaces the GKEK too, so that a newcomer who recorded earlier rekeys can't open them. A new key is only
ever wrapped under keys that no departed member had: the GKEK where nobody left, session KEKs otherwise.

Both sides' fresh X25519 keys make the session KEK; the welcome travels sealed to the member, the rest of the exchange
of RFC 2093 (identification, permissions) is what `mcsa.registration` does for every scheme.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from google.protobuf.message import DecodeError

from mcsa.errors import Rejected
from mcsa.gkm.interface import Change, Excluded, Promises
from mcsa.keys import KEY_SIZE, GroupKey, Random, WrapKey
from mcsa.v1.gkm_pb2 import GkmpJoined, GkmpMemberKeys, GkmpRecord, GkmpRekey, GkmpWelcome
from mcsa.x25519 import load_public_key


@dataclass(frozen=True, slots=True)
class Keys:
    """A group's two keys."""

    gtek: GroupKey
    gkek: WrapKey

    @classmethod
    def draw(cls, random: Random) -> Keys:
        """Both fresh."""
        return cls(GroupKey.draw(random), WrapKey.draw(random))

    @classmethod
    def make(cls, shared: bytes, public_keys: bytes) -> Keys:
        """Both from what controller and first member agreed on."""
        gtek = GroupKey.extract(shared, public_keys, "mcsa gkmp gtek v1")
        return cls(gtek, WrapKey.extract(shared, public_keys, "mcsa gkmp gkek v1"))

    def wrap(self, under: WrapKey) -> bytes:
        """GTEK || GKEK under a key (RFC 3394), 72 bytes."""
        return aes_key_wrap(under.reveal(), self.gtek.reveal() + self.gkek.reveal())

    @classmethod
    def unwrap(cls, wrapped: bytes, under: WrapKey) -> Keys:
        """The other way; `Rejected("rekey")` where they were not wrapped under this key."""
        try:
            raw = aes_key_unwrap(under.reveal(), wrapped)
            return cls(GroupKey(raw[:KEY_SIZE]), WrapKey(raw[KEY_SIZE:]))
        except (InvalidUnwrap, ValueError):
            raise Rejected("rekey", "does not unwrap") from None


class Controller:
    """The group controller: the Authorizer's half."""

    def __init__(self, random: Random, keys: Keys) -> None:
        self._random = random
        self._keys = keys
        self._members: dict[str, tuple[int, WrapKey]] = {}
        self._next = 1
        self._generation = 1

    @classmethod
    def restore(cls, snapshot: bytes, random: Random) -> Controller:
        """See `interface.Scheme.restore`."""
        controller = cls(random, Keys.draw(bytes))
        controller.apply(snapshot)
        return controller

    @property
    def key(self) -> GroupKey:
        """GTEK."""
        return self._keys.gtek

    def check_contribution(self, contribution: bytes) -> None:
        """See `interface.Authority.check_contribution`."""
        _public_key(contribution, "contribution")

    def change(self, joins: Mapping[str, bytes], leaves: Sequence[str], *, replace_key: bool) -> Change:
        """See `interface.Authority.change`."""
        handshakes = {name: _Handshake(self._random, public) for name, public in joins.items()}
        leaves = [name for name in self._members if name in set(leaves) or name in joins]
        staying = {name: member for name, member in self._members.items() if name not in set(leaves)}
        somebody_left = len(staying) < len(self._members)
        first_name = next(iter(joins), None) if not staying else None
        rekey = b""
        if first_name is not None or somebody_left or replace_key:
            self._generation += 1
        if first_name is not None:
            self._keys = handshakes[first_name].group_keys()
        elif somebody_left:
            self._keys = Keys.draw(self._random)
            parts = [GkmpMemberKeys(member=n, wrapped_keys=self._wrap_for(kek)) for n, kek in staying.values()]
            rekey = GkmpRekey(members=parts, generation=self._generation).SerializeToString()
        elif replace_key:
            gkek, self._keys = self._keys.gkek, Keys.draw(self._random)
            wrapped = self._keys.wrap(gkek)
            rekey = GkmpRekey(under_group_key=wrapped, generation=self._generation).SerializeToString()
        welcomes = {}
        for name, handshake in handshakes.items():
            session_kek = handshake.session_kek()
            staying[name] = (self._next, session_kek)
            wrapped = b"" if name == first_name else self._wrap_for(session_kek)
            welcome = GkmpWelcome(
                controller_public_key=handshake.public,
                wrapped_keys=wrapped,
                member=self._next,
                generation=self._generation,
            )
            welcomes[name] = welcome.SerializeToString()
            self._next += 1
        self._members = staying
        wraps = sum(1 for name in joins if name != first_name) + (len(staying) - len(joins) if somebody_left else 0)
        return Change(rekey, welcomes, self._record(joins, leaves), wraps or int(bool(rekey)))

    def apply(self, record: bytes) -> None:
        """See `interface.Authority.apply`."""
        try:
            message = GkmpRecord.FromString(record)
            keys = Keys(GroupKey(message.gtek), WrapKey(message.gkek))
            joined = {entry.name: (entry.number, WrapKey(entry.session_kek)) for entry in message.joined}
        except (DecodeError, ValueError):
            raise Rejected("record", "malformed") from None
        for name in message.left:
            self._members.pop(name, None)
        self._members.update(joined)
        self._keys, self._next, self._generation = keys, message.next_number, message.generation

    def snapshot(self) -> bytes:
        """See `interface.Authority.snapshot`: a record in which everybody joins."""
        return self._record(self._members, [])

    def _record(self, joined: Iterable[str], left: Sequence[str]) -> bytes:
        entries = []
        for name in joined:
            number, session_kek = self._members[name]
            entries.append(GkmpJoined(name=name, number=number, session_kek=session_kek.reveal()))
        record = GkmpRecord(
            gtek=self._keys.gtek.reveal(),
            gkek=self._keys.gkek.reveal(),
            generation=self._generation,
            next_number=self._next,
            joined=entries,
            left=left,
        )
        return record.SerializeToString()

    def _wrap_for(self, session_kek: WrapKey) -> bytes:
        return self._keys.wrap(_wrapping_key(session_kek, self._generation))


class GroupMember:
    """A member's half."""

    def __init__(self, number: int, generation: int, session_kek: WrapKey, keys: Keys) -> None:
        self._number = number
        self._generation = generation
        self._session_kek = session_kek
        self._keys = keys

    @property
    def key(self) -> GroupKey:
        """GTEK."""
        return self._keys.gtek

    @property
    def keys_held(self) -> int:
        """GTEK, GKEK, session KEK."""
        return 3

    def process(self, rekey: bytes) -> GroupKey:
        """See `interface.Member.process`."""
        try:
            message = GkmpRekey.FromString(rekey)
        except DecodeError:
            raise Rejected("rekey", "malformed") from None
        if message.generation <= self._generation:
            raise Rejected("rekey", "stale")
        self._keys = self._open(message)
        self._generation = message.generation
        return self._keys.gtek

    def _open(self, message: GkmpRekey) -> Keys:
        if message.under_group_key:
            return Keys.unwrap(message.under_group_key, self._keys.gkek)
        if not message.members:
            raise Rejected("rekey", "empty")
        for part in message.members:
            if part.member == self._number:
                return Keys.unwrap(part.wrapped_keys, _wrapping_key(self._session_kek, message.generation))
        raise Excluded


class Candidate:
    """A member's half before it is one."""

    def __init__(self, random: Random) -> None:
        self._private = X25519PrivateKey.from_private_bytes(random(32))

    @property
    def contribution(self) -> bytes:
        """The member's fresh X25519 public key, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def finish(self, welcome: bytes) -> GroupMember:
        """See `interface.Joining.finish`."""
        try:
            message = GkmpWelcome.FromString(welcome)
        except DecodeError:
            raise Rejected("welcome", "malformed") from None
        controller = _public_key(message.controller_public_key, "welcome")
        shared = self._private.exchange(controller)
        public_keys = message.controller_public_key + self.contribution
        session_kek = _session_kek(shared, public_keys)
        if message.wrapped_keys:
            keys = Keys.unwrap(message.wrapped_keys, _wrapping_key(session_kek, message.generation))
        else:
            keys = Keys.make(shared, public_keys)
        return GroupMember(message.member, message.generation, session_kek, keys)


class _Handshake:
    """The controller's side of making a key with one member."""

    def __init__(self, random: Random, member_public: bytes) -> None:
        private = X25519PrivateKey.from_private_bytes(random(32))
        self.public = private.public_key().public_bytes_raw()
        self._shared = private.exchange(_public_key(member_public, "contribution"))
        self._public_keys = self.public + member_public

    def session_kek(self) -> WrapKey:
        return _session_kek(self._shared, self._public_keys)

    def group_keys(self) -> Keys:
        return Keys.make(self._shared, self._public_keys)


def _public_key(raw: bytes, cause: str) -> X25519PublicKey:
    try:
        return load_public_key(raw)
    except ValueError:
        raise Rejected(cause, "not an X25519 public key") from None


def _wrapping_key(session_kek: WrapKey, generation: int) -> WrapKey:
    return WrapKey.derive(session_kek, "mcsa gkmp generation v1", generation)


def _session_kek(shared: bytes, public_keys: bytes) -> WrapKey:
    return WrapKey.extract(shared, public_keys, "mcsa gkmp session kek v1")


class Gkmp:
    """The plug-in."""

    name = "gkmp"
    title = "GKMP, Harney & Muckenhirn, RFC 2093 and 2094"
    promises = Promises(
        forward_secrecy=True,
        backward_secrecy=True,
        trusted_with_keys="the Authorizer",
        join_cost="1 sealed answer, 1 wrap multicast",
        leave_cost="n wraps in one multicast",
    )

    distributors = "none"
    members_at_most = 4_000  # where one leaves, 82 bytes for each of the others: 330 kB of an envelope's 512 KiB
    subgroups = False

    def create(self, random: Random) -> Controller:
        """A new group."""
        return Controller(random, Keys.draw(random))

    def restore(self, snapshot: bytes, random: Random) -> Controller:
        """A group as it was."""
        return Controller.restore(snapshot, random)

    def begin(self, random: Random) -> Candidate:
        """A new member."""
        return Candidate(random)


SCHEME = Gkmp()
