"""Anti-replay over relaying agents: each packet of an origin is taken once, by whatever agent it comes."""

from __future__ import annotations

from mcsa.esp.relayed import Origin
from mcsa.esp.replay import DEFAULT_WINDOW, ReplayWindow

ORIGINS_AT_ONCE = 4_096
EPOCHS_AT_ONCE = 2  # the current one, and the one before, of which packets may still be on their way


class OriginWindows:
    """Tells which relayed packets were not seen before, by their origin.

    The window of each hop (`ReplayWindow`, RFC 4303) is not enough: two agents, or one that restarted and so has a new
    sender ID, seal the same packet into different ones. Like that window it checks and remembers in two acts, so that
    who authenticates the source can do it in between.

    Of each origin there are windows for its two newest epochs; what is older was seen. Which epochs its subgroup has
    is not known here: what an agent says of an origin's epochs is believed as the rest is, so that a malicious one
    can silence the origin by claiming a later epoch. As many origins are remembered as `limit` says; one more, and the
    one that was silent for longest is forgotten, and its packets could be replayed by an agent.

    One thread at a time.
    """

    def __init__(self, window: int = DEFAULT_WINDOW, limit: int = ORIGINS_AT_ONCE) -> None:
        self._window = window
        self._limit = limit
        self._origins: dict[int, dict[int, ReplayWindow]] = {}  # by sender ID, the last heard last; then by epoch

    def is_fresh(self, origin: Origin) -> bool:
        """True where the packet was not seen, and is none so old that it could have been. Changes nothing."""
        windows = self._origins.get(origin.sender_id, {})
        window = windows.get(origin.epoch)
        if window is None:
            return len(windows) < EPOCHS_AT_ONCE or origin.epoch > min(windows)
        return window.is_fresh(origin.sequence)

    def strike_out(self, origin: Origin) -> None:
        """Remembers a packet that `is_fresh` allowed."""
        windows = self._origins.pop(origin.sender_id, {})
        self._origins[origin.sender_id] = windows
        if origin.epoch not in windows:
            windows[origin.epoch] = ReplayWindow(self._window)
            if len(windows) > EPOCHS_AT_ONCE:
                del windows[min(windows)]
        windows[origin.epoch].strike_out(origin.sequence)
        if len(self._origins) > self._limit:
            del self._origins[next(iter(self._origins))]
