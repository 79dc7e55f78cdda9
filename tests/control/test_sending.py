"""What is repeated for whom, and how much of it."""

from __future__ import annotations

import itertools

from mcsa.control.history import HISTORY_MESSAGES
from mcsa.control.sending import LIVE_FOR, PATIENCE_MAX, REPEAT_AFTER, REPEAT_RATE, Listener, OwnStream
from tests.control.parts import CONFERENCE, PROCESS, sealed
from tests.world import NOW, World


def stream(world: World, messages: int, size: int = 10) -> OwnStream:
    own = OwnStream(world.user("ann"), CONFERENCE, PROCESS)
    for _ in range(messages):
        own.append(sealed(bytes(size)), NOW)
    return own


def played(own: OwnStream, listeners: list[Listener], until: float) -> list[tuple[float, int, int]]:
    """Time, number of the fragment's message, and bytes, of all repeats."""
    out = []
    while (at := own.repeat_at(listeners)) is not None and at <= until:
        out += [(at, fragment.sequence, fragment.ByteSize()) for fragment in own.repeats(listeners, at)]
    return out


def test_who_has_all_gets_nothing(world: World):
    own = stream(world, 3)
    assert own.repeat_at([Listener(NOW, has=3)]) is None
    assert own.repeats([Listener(NOW, has=3)], NOW + 10) == []


def test_who_lacks_something_gets_it_after_a_while(world: World):
    own = stream(world, 3)
    listener = Listener(NOW, has=1)
    assert own.repeats([listener], NOW + REPEAT_AFTER / 2) == []
    at = own.repeat_at([listener])
    assert at == NOW + REPEAT_AFTER
    assert [fragment.sequence for fragment in own.repeats([listener], at)] == [2, 3]
    assert own.repeats([listener], at + REPEAT_AFTER / 2) == []


def test_two_that_lack_the_same_get_it_once(world: World):
    own = stream(world, 3)
    listeners = [Listener(NOW, has=1), Listener(NOW, has=2)]
    assert [fragment.sequence for fragment in own.repeats(listeners, NOW + REPEAT_AFTER)] == [2, 3]


def test_without_progress_ever_more_seldom_and_then_never(world: World):
    own = stream(world, 1)
    times = [at for at, _, _ in played(own, [Listener(NOW)], NOW + 3_600)]
    gaps = [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)]
    assert gaps == [REPEAT_AFTER * 2 ** min(n, PATIENCE_MAX) for n in range(len(gaps))]
    assert len(times) <= PATIENCE_MAX + 3
    assert times[-1] <= NOW + LIVE_FOR


def test_one_that_lives_on_without_progress_costs_little(world: World):
    """Such as one whose old Status somebody replays."""
    own = stream(world, 100, size=1_000)
    listener = Listener(NOW)
    sent = 0
    for second in range(600):
        listener.hear(NOW + second)
        listener.tell(0, NOW + second)
        sent += sum(size for _, _, size in played(own, [listener], NOW + second + 1))
    assert sent <= (600 / (REPEAT_AFTER * 2**PATIENCE_MAX) + PATIENCE_MAX + 2) * (0.1 * REPEAT_RATE + 1_350)


def test_progress_brings_the_next_at_once(world: World):
    own = stream(world, 400, size=100)
    listener = Listener(NOW)
    first = own.repeats([listener], NOW + REPEAT_AFTER)
    own.repeats([listener], NOW + 1)
    listener.hear(NOW + 1.1)
    listener.tell(first[-1].sequence, NOW + 1.1)
    at = own.repeat_at([listener])
    assert at is not None and at <= NOW + 1.1 + REPEAT_AFTER
    assert own.repeats([listener], NOW + 1.1 + REPEAT_AFTER)[0].sequence == first[-1].sequence + 1


def test_positions_only_rise():
    listener = Listener(NOW, has=7)
    listener.tell(3, NOW)
    assert listener.has == 7


def test_who_comes_back_is_not_left_waiting(world: World):
    own = stream(world, 1)
    listener = Listener(NOW)
    played(own, [listener], NOW + 3_600)
    listener.hear(NOW + 3_600)
    assert own.repeat_at([listener]) == NOW + 3_600


def test_the_rate_holds_for_all_together(world: World):
    own = stream(world, 300, size=5_000)
    listeners = [Listener(NOW, has=has) for has in range(0, 300, 10)]
    sent = played(own, listeners, NOW + 4)
    assert sum(size for _, _, size in sent) <= 4.1 * REPEAT_RATE + 6_000
    assert sum(size for _, _, size in sent) > REPEAT_RATE


def test_what_is_out_of_the_history_is_not_repeated(world: World):
    own = OwnStream(world.user("ann"), CONFERENCE, PROCESS)
    for _ in range(HISTORY_MESSAGES + 5):
        own.append(b"x", NOW)
    assert (own.oldest, own.last) == (6, HISTORY_MESSAGES + 5)
    assert own.repeats([Listener(NOW)], NOW + REPEAT_AFTER)[0].sequence == 6
