"""The life of a conference, as one table.

    announced --call--> gathering --run--> keying --activated--> active --call--> rekeying ...
        \\_________________ failed(reason), closed: from anywhere _______________/

`announced`: the groups are joined, the call is still to come. `calling`: the Coordinator has called, nobody has
answered yet. `gathering`: responses come in (Coordinator), or ours is on its way (participant). `keying`: a first run
of the key scheme. `active`: everybody in the roster holds the key. `rekeying`: a key is in use while the next is made.
"""

from __future__ import annotations

ANNOUNCED, CALLING, GATHERING, KEYING = "announced", "calling", "gathering", "keying"
ACTIVE, REKEYING, CLOSED, FAILED = "active", "rekeying", "closed", "failed"
ENDED = (CLOSED, FAILED)

TRANSITIONS: dict[tuple[str, str], str] = {
    # a call was sent (Coordinator)
    (ANNOUNCED, "call"): CALLING,
    (CALLING, "call"): CALLING,
    (GATHERING, "call"): GATHERING,
    (KEYING, "call"): GATHERING,
    (ACTIVE, "call"): REKEYING,
    (REKEYING, "call"): REKEYING,
    # a response was sent (participant) or has come (Coordinator)
    (ANNOUNCED, "response"): GATHERING,
    (CALLING, "response"): GATHERING,
    (GATHERING, "response"): GATHERING,
    (KEYING, "response"): GATHERING,
    (ACTIVE, "response"): REKEYING,
    (REKEYING, "response"): REKEYING,
    # a run of the key scheme begins
    (CALLING, "run"): KEYING,
    (GATHERING, "run"): KEYING,
    (KEYING, "run"): KEYING,
    (ACTIVE, "run"): REKEYING,
    (REKEYING, "run"): REKEYING,
    # the Coordinator's signed `activate`, with all confirmations
    (KEYING, "activated"): ACTIVE,
    (REKEYING, "activated"): ACTIVE,
    # a run was aborted; it begins anew with another call
    (KEYING, "aborted"): GATHERING,
    (REKEYING, "aborted"): REKEYING,
}
"""(state, event) -> state. What is not here does not happen: the event is ignored, and counted."""


def next_state(state: str, event: str) -> str | None:
    """The state after an event, None where the event has no place in this state."""
    if event in ENDED:
        return None if state in ENDED else event
    return TRANSITIONS.get((state, event))
