from __future__ import annotations

import pytest

from mcsa.esp.inbound import Run
from services.msm.received import Received, ReceivedRun, Together, together

PAYLOADS = [b"a", b"b", b"c"]
RUN = ReceivedRun(Run(7, 99, 41, 5004, 5006, PAYLOADS))
EACH = [Received(7, 5004, 5006, payload, 99, sequence) for sequence, payload in enumerate(PAYLOADS, 41)]


def test_a_run_is_the_packets_that_it_is_made_of() -> None:
    assert list(RUN) == EACH
    assert len(RUN) == 3
    assert [RUN[n] for n in range(-3, 3)] == [EACH[n] for n in range(-3, 3)]
    assert [RUN[1:], RUN[::-1], RUN[:-1]] == [EACH[1:], EACH[::-1], EACH[:-1]]
    assert [packet.origin.sequence for packet in RUN] == [41, 42, 43]
    with pytest.raises(IndexError):
        RUN[3]


def test_what_is_alike_is_together_in_a_run_and_in_a_list() -> None:
    assert list(together(RUN)) == [Together(EACH[0], PAYLOADS)] == list(together(EACH))
    other = EACH[1]._replace(sender_id=8)
    by_agent = EACH[2]._replace(relay=9)
    assert list(together([EACH[0], other, by_agent, EACH[2]])) == [
        Together(EACH[0], [b"a"]),
        Together(other, [b"b"]),
        Together(by_agent, [b"c"]),
        Together(EACH[2], [b"c"]),
    ]
    assert list(together([])) == []
