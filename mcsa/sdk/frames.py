"""What the processes of a conference seal to one another (SFrame), as one process sees it: its sealer, their keys."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from mcsa.errors import Rejected
from mcsa.keys import ConferenceKey
from mcsa.sframe import FrameKey, FrameSealer, base_key, parse_header

EPOCHS_KEPT = 3  # conference keys kept for what is still under way
WAITING_AT_ONCE = 256  # messages whose key or process is not known yet


@dataclass(frozen=True, slots=True)
class Message:
    """Something that was said: by whom, as its signature and its key prove."""

    user: str
    content: bytes
    key_epoch: int


@dataclass
class Frames:
    """Keys by epoch and process. Pure."""

    user: str
    application_id: bytes
    key_id: int = 0
    epoch: int = 0
    _keys: dict[int, ConferenceKey] = field(default_factory=dict)
    _processes: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    _openers: dict[tuple[int, int], FrameKey] = field(default_factory=dict)
    _sealer: FrameSealer | None = None
    _waiting: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=WAITING_AT_ONCE))

    def key_changed(self, epoch: int, key: ConferenceKey) -> list[Message]:
        """A new conference key, for all that is sealed from now on. Returns what it opened of what waited."""
        if epoch <= self.epoch:
            return []
        self.epoch = epoch
        self._keys[epoch] = key
        for old in sorted(self._keys)[:-EPOCHS_KEPT]:
            del self._keys[old]
        self._openers = {place: opener for place, opener in self._openers.items() if place[0] in self._keys}
        self._sealer = None
        return self._retry()

    def process_changed(self, user: str, application_id: bytes, key_id: int) -> list[Message]:
        """Another process of the conference, announced signed. Returns what it opened of what waited."""
        self._processes.setdefault(key_id, (user, application_id))
        return self._retry()

    def reveal_key(self) -> bytes:
        """The newest conference key's bytes; `LookupError` before the first."""
        if not self.epoch:
            raise LookupError("no conference key yet")
        return self._keys[self.epoch].reveal()

    def seal(self, content: bytes) -> bytes:
        """A frame of this process; `LookupError` before the first key."""
        if self._sealer is None:
            key = self._keys.get(self.epoch)
            if key is None or not self.key_id:
                raise LookupError("no conference key yet")
            self._sealer = FrameSealer(base_key(key, self.user, self.application_id, self.epoch), self.key_id)
        return self._sealer.seal(content)

    def open(self, user: str, frame: bytes) -> list[Message]:
        """What `user` sealed; kept for later where the key or the process isn't known yet. `Rejected("sframe")`."""
        header, _ = parse_header(frame)
        if header.key_id not in self._processes:
            self._waiting.append((user, frame))
            return []
        return self._open(user, frame, header.key_id)

    def _open(self, user: str, frame: bytes, key_id: int) -> list[Message]:
        owner, application_id = self._processes[key_id]
        if owner != user:
            raise Rejected("sframe", "signed by another than sealed it")
        for epoch in sorted(self._keys, reverse=True):
            place = (epoch, key_id)
            if place not in self._openers:
                base = base_key(self._keys[epoch], owner, application_id, epoch)
                self._openers[place] = FrameKey(base, key_id)
            try:
                _, content = self._openers[place].open(frame)
            except Rejected:
                continue
            return [Message(user, content, epoch)]
        self._waiting.append((user, frame))
        return []

    def _retry(self) -> list[Message]:
        waiting, self._waiting = self._waiting, deque(maxlen=WAITING_AT_ONCE)
        opened: list[Message] = []
        for user, frame in waiting:
            try:
                opened += self.open(user, frame)
            except Rejected:
                continue
        return opened
