from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mcsa.equal_sizes import of_one_size


@given(st.lists(st.sampled_from([b"", b"a", b"bb", b"cc"]), max_size=40), st.integers(1, 9))
def test_parts_are_the_payloads_in_order_and_as_few_as_can_be(payloads: list[bytes], most: int) -> None:
    parts = list(of_one_size(payloads, lambda size: most - (most > 1) * (size == 2)))
    assert [payload for _, part in parts for payload in part] == payloads
    for size, part in parts:
        assert {len(payload) for payload in part} == {size}
        assert len(part) <= most
    for (size, part), (following, _) in pairwise(parts):
        full = most - (most > 1) * (size == 2)
        assert size != following or len(part) == full
