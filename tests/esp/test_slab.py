from __future__ import annotations

from array import array

from mcsa.esp.slab import SLAB_SIZE, Slab


def test_views_lie_where_packets_do() -> None:
    slab = Slab()
    for n in range(4):
        slab.buffer[n * 52 : n * 52 + 52] = bytes((n,)) * 8 + bytes(8) + bytes((10 + n,)) * 36
    for count in (2, 4, 3):
        layout = slab.layout(52, count)
        assert [bytes(view) for view in layout.associated[:count]] == [bytes((n,)) * 8 for n in range(count)]
        assert [bytes(view) for view in layout.bodies[:count]] == [bytes((10 + n,)) * 36 for n in range(count)]
        assert [bytes(layout.packet(n)) for n in range(1, count)] == [
            bytes(slab.buffer[n * 52 : n * 52 + 52]) for n in range(1, count)
        ]


def test_plaintexts_lie_one_after_another_in_their_own_buffer() -> None:
    slab = Slab()
    layout = slab.layout(52, 3)
    slab.plaintext[:60] = bytes(range(60))
    assert [bytes(view) for view in layout.plaintexts] == [bytes(range(n, n + 20)) for n in (0, 20, 40)]
    for field, places in (
        (layout.ports, range(4)),
        (layout.lengths, range(4, 6)),
        (layout.trailers, range(18, 20)),
        (layout.last_words, range(16, 20)),
    ):
        assert field[:3].tobytes() == bytes(20 * n + place for n in range(3) for place in places)


def test_headers_and_nonces_are_those_of_their_packets() -> None:
    slab = Slab()
    for first, salt in ((1, b"salt"), (2**32 - 3, b"salt"), (77, b"SALT")):  # of another association, too
        layout = slab.layout(48, 3)
        slab.write_headers(layout, 0xABCDEF12, array("I", range(first, first + 3)), salt)
        for n in range(3):
            number = first + n
            assert slab.view[48 * n : 48 * n + 16] == bytes.fromhex("abcdef12") + b"".join(
                (number.to_bytes(4, "big"), number.to_bytes(8, "big"))
            )
            assert slab.nonces[n] == salt + number.to_bytes(8, "big")


def test_nonces_are_of_the_ivs_that_packets_have() -> None:
    slab = Slab()
    layout = slab.layout(48, 4)
    for n in range(4):
        slab.view[48 * n + 8 : 48 * n + 16] = b"kernel%02d" % n
    slab.write_nonces(layout, 1, 3, b"salt")
    assert slab.nonces[1:3] == [b"saltkernel01", b"saltkernel02"]
    assert slab.nonces[3] == b"salt" + bytes(8)  # not asked for


def test_views_are_made_once() -> None:
    slab = Slab()
    assert slab.layout(100, 3).bodies[1] is slab.layout(100, 5).bodies[1]


def test_whoever_chooses_many_sizes_fills_no_memory() -> None:
    slab = Slab()
    for size in range(44, 4_044, 4):
        slab.layout(size, 2)
    assert len(slab._layouts) <= 64


def test_the_smallest_packets_fill_it() -> None:
    most = SLAB_SIZE // 44
    layout = Slab().layout(44, most)
    assert len(layout.bodies) == len(layout.plaintexts) == len(layout.spis) == len(layout.trailers) == most
