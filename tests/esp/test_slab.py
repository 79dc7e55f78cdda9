from __future__ import annotations

from mcsa.esp.slab import SLAB_SIZE, Slab


def test_views_lie_where_packets_do() -> None:
    slab = Slab()
    for n in range(4):
        slab.buffer[n * 50 : n * 50 + 50] = bytes((n,)) * 8 + bytes(8) + bytes((10 + n,)) * 34
    for count in (2, 4, 3):
        associated, bodies = slab.layout(50, count)
        assert [bytes(view) for view in associated[:count]] == [bytes((n,)) * 8 for n in range(count)]
        assert [bytes(view) for view in bodies[:count]] == [bytes((10 + n,)) * 34 for n in range(count)]


def test_views_are_made_once() -> None:
    slab = Slab()
    assert slab.layout(100, 3)[1][0] is slab.layout(100, 5)[1][0]


def test_whoever_chooses_many_sizes_fills_no_memory() -> None:
    slab = Slab()
    for size in range(44, 1_044):
        slab.layout(size, 2)
    assert len(slab._layouts) <= 64


def test_one_packet_may_fill_it() -> None:
    assert len(Slab().layout(SLAB_SIZE, 1)[1][0]) == SLAB_SIZE - 16
