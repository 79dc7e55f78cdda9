"""The Authorizer's table of members, against a plain dict, and against bytes that make no sense."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from mcsa.encoding import encode_parts
from mcsa.errors import Rejected
from services.authorizer.members import Member, Members

KEY = bytes(range(32))
FORM, INDEX_KEY, TAGS, SLOTS, PREFIXES, PAGES, SENDER_IDS, LEASE_ENDS = range(8)
NONE = 2**32 - 1


def host(number: int) -> str:
    return f"spiffe://example.org/host/h{number}"


def user(number: int) -> str:
    return f"spiffe://example.org/user/u{number}"


def member(number: int) -> Member:
    return Member(host(number), f"192.0.2.{number}", number or None, {user(number)}, 1_000 + number)


def members(*numbers: int) -> Members:
    table = Members(KEY)
    for number in numbers:
        table.put(member(number))
    return table


def as_dict(table: Members) -> dict[str, Member]:
    return {each.host: each for each in table}


# ---- one at a time


def test_what_goes_in_comes_out():
    table = members(0, 1, 2)
    assert [table.get(host(number)) for number in range(4)] == [member(0), member(1), member(2), None]
    assert host(2) in table and host(3) not in table and len(table) == 3
    assert list(table) == [member(0), member(1), member(2)]


def test_a_member_is_a_value():
    table = members(1)
    found = table.get(host(1))
    assert found is not None
    found.users.add(user(9))
    assert table.get(host(1)) == member(1)
    table.put(found)
    assert len(table) == 1 and table.get(host(1)) == found


def test_who_is_removed_is_gone():
    table = members(1, 2)
    assert table.remove(host(1)) == member(1)
    assert table.remove(host(1)) is None
    assert list(table) == [member(2)] and table.lapsed(math.inf) == [host(2)] and table.hosts_of(user(1)) == []


@pytest.mark.parametrize("kept", [(1000.0, 1000), (1000.2, 1001), (-5.0, 0), (NONE, math.inf), (math.inf, math.inf)])
def test_leases_end_at_whole_seconds(kept: tuple[float, float]):
    table = members(1)
    assert table.renew(host(1), kept[0])
    assert table.get(host(1)) == replace(member(1), lease_ends_at=kept[1])


def test_a_lease_lapses_when_it_ends():
    table = members(*range(200))
    assert table.renew(host(150), 900.5) and table.renew(host(3), math.inf)
    assert not table.renew(host(200), 5)
    assert table.lapsed(900.9) == []
    assert table.lapsed(901) == [host(150)]
    assert set(table.lapsed(math.inf)) == {host(number) for number in range(200)} - {host(3)}


def test_a_user_is_who_has_this_name_and_nobody_else():
    table = Members(KEY)
    sought = user(1)
    table.put(Member("a", "", None, {sought, user(2), ""}))
    table.put(Member("b", sought, None, {sought + "1", sought[1:], "u1", "/u1"}))  # an address that is no user
    table.put(Member(sought, "", None))
    table.put(Member("c", "", None, {sought}))
    assert table.hosts_of(sought) == ["a", "c"]
    assert table.hosts_of("u1") == table.hosts_of("/u1") == ["b"]
    assert table.hosts_of("") == ["a"]
    assert table.hosts_of("spiffe://elsewhere.org/user/u1") == []


def test_more_prefixes_than_there_are_numbers():
    table = Members(KEY)
    for number in range(300):
        table.put(Member(f"spiffe://d{number}.org/host/h", "", None, {f"spiffe://d{number}.org/user/u"}))
    for again in (table, Members.unpack(table.pack())):
        assert all(
            again.hosts_of(f"spiffe://d{number}.org/user/u") == [f"spiffe://d{number}.org/host/h"]
            for number in range(300)
        )


def test_churn_costs_no_memory():
    table = members(*range(10_000, 11_000))
    size = len(table.pack())
    for number in range(11_000, 30_000):
        table.remove(host(number - 1_000))
        table.put(member(number))
    assert len(table) == 1_000 and len(table.pack()) == size
    for number in range(29_000, 30_000):
        table.remove(host(number))
    assert list(table) == [] and len(table.pack()) < size / 4  # what stays is the index


def test_a_key_of_another_size_is_a_bug():
    with pytest.raises(ValueError, match="32 bytes"):
        Members(bytes(16))


# ---- written down


def test_packing_is_deterministic():
    table = members(*range(100))
    table.remove(host(50))
    raw = table.pack()
    assert raw == table.pack() == Members.unpack(raw).pack()
    assert as_dict(Members.unpack(raw)) == as_dict(table)


def parts_of(raw: bytes) -> list[bytes]:
    parts = []
    while raw:
        (length,) = struct.unpack(">I", raw[:4])
        parts.append(raw[4 : 4 + length])
        raw = raw[4 + length :]
    return parts


GOOD = members(0, 1, 2, 3, 4)
GOOD.remove(host(2))  # in the middle a free place
PARTS = parts_of(GOOD.pack())
ROW = b"\x01h0\xfe192.0.2.0\xfc\x02u0\xfd\xff"


def test_the_bytes_are_laid_out_as_written():
    assert PARTS[FORM] == b"members 1" and PARTS[INDEX_KEY] == KEY
    assert PARTS[PREFIXES] == b"\xffspiffe://example.org/host/\xffspiffe://example.org/user/"
    assert PARTS[PAGES].startswith(ROW) and PARTS[PAGES].count(b"\xff") == 64
    assert struct.unpack("<64I", PARTS[SENDER_IDS]) == (NONE, 1, NONE, 3, 4) + (NONE,) * 59
    assert struct.unpack("<64I", PARTS[LEASE_ENDS]) == (1000, 1001, NONE, 1003, 1004) + (NONE,) * 59


def other_row(row: bytes) -> bytes:
    return PARTS[PAGES].replace(ROW, row)


@pytest.mark.parametrize(
    ("part", "raw", "detail"),
    [
        pytest.param(FORM, b"members 2", "no members", id="another format"),
        pytest.param(INDEX_KEY, KEY[1:], "no members", id="key too short"),
        pytest.param(TAGS, PARTS[TAGS][1:], "the index doesn't fit", id="tags cut"),
        pytest.param(SLOTS, PARTS[SLOTS][1:], "the index doesn't fit", id="slots cut"),
        pytest.param(TAGS, b"", "the index doesn't fit", id="no tags"),
        pytest.param(PREFIXES, b"\xff\xc3", "a prefix is no text", id="prefix no text"),
        pytest.param(PREFIXES, b"", "no page of rows", id="prefixes missing"),
        pytest.param(PREFIXES, b"first/\xffsecond/", "the prefixes don't fit", id="first prefix not empty"),
        pytest.param(PREFIXES, b"\xffa/\xffa/", "the prefixes don't fit", id="a prefix twice"),
        pytest.param(PREFIXES, b"".join(b"\xffp%d/" % n for n in range(128)), "the prefixes don't fit", id="too many"),
        pytest.param(PAGES, PARTS[PAGES][:-1], "no page of rows", id="page cut"),
        pytest.param(PAGES, PARTS[PAGES] + b"\xff", "no page of rows", id="row left over"),
        pytest.param(PAGES, other_row(ROW.replace(b"\x01", b"\x03")), "no page of rows", id="unknown prefix"),
        pytest.param(PAGES, other_row(ROW.replace(b"\x01h0", b"")), "no page of rows", id="no host"),
        pytest.param(PAGES, other_row(b"\x01h0\xff"), "no page of rows", id="no address"),
        pytest.param(PAGES, other_row(ROW.replace(b"\xfe", b"\xfe\xfe")), "no page of rows", id="two addresses"),
        pytest.param(PAGES, other_row(ROW.replace(b"\xfd", b"")), "no page of rows", id="user not ended"),
        pytest.param(PAGES, other_row(ROW.replace(b"\x02u0", b"")), "no page of rows", id="user without name"),
        pytest.param(PAGES, other_row(ROW.replace(b"h0", b"\xc3")), "a row is no text", id="half a letter"),
        pytest.param(PAGES, other_row(ROW.replace(b"h0", b"\x80")), "a row is no text", id="the other half"),
        pytest.param(PAGES, other_row(b"\xff"), "the index doesn't fit the rows", id="row missing"),
        pytest.param(PAGES, b"\xff" + PARTS[PAGES][:-1], "something is left", id="rows at other places"),
        pytest.param(PAGES, PARTS[PAGES] + b"\xff" * 64, "a column doesn't fit", id="page too many"),
        pytest.param(SENDER_IDS, PARTS[SENDER_IDS][4:], "a column doesn't fit", id="sender ID missing"),
        pytest.param(LEASE_ENDS, PARTS[LEASE_ENDS] + b"\0", "a column doesn't fit", id="lease end too long"),
        pytest.param(LEASE_ENDS, PARTS[LEASE_ENDS][:-4] + bytes(4), "something is left", id="lease of nobody"),
    ],
)
def test_bytes_that_make_no_sense(part: int, raw: bytes, detail: str):
    parts = [*PARTS]
    parts[part] = raw
    with pytest.raises(Rejected, match=detail) as rejected:
        Members.unpack(encode_parts(*parts))
    assert rejected.value.cause == "record"


def test_more_pages_than_places():
    parts = [*PARTS]
    parts[PAGES] += b"\xff" * 64
    parts[SENDER_IDS] += b"\xff" * 256
    parts[LEASE_ENDS] += b"\xff" * 256
    with pytest.raises(Rejected, match="the index doesn't fit the rows"):
        Members.unpack(encode_parts(*parts))


def test_lengths_are_checked_before_they_are_believed():
    raw = GOOD.pack()
    for cut in range(len(raw)):
        with pytest.raises(Rejected, match="cut short"):
            Members.unpack(raw[:cut])
    with pytest.raises(Rejected, match="left over"):
        Members.unpack(raw + b"\0")
    with pytest.raises(Rejected, match="cut short"):
        Members.unpack(b"\xff" * 1_000)


# ---- whatever comes and goes

NAMES = st.sampled_from([host(number) for number in range(80)]) | st.text(st.characters(exclude_categories=["Cs"]))
USERS = st.sampled_from([user(1), user(11), "u1", ""]) | st.text("a/", max_size=4)
ENDS = st.integers(-1, 2**33) | st.floats(0, 2e9) | st.just(math.inf)


class TableAndDict(RuleBasedStateMachine):
    """The same is done to a table and to a dict."""

    hosts = Bundle("hosts")

    @initialize()
    def begin(self):
        self.table, self.model = Members(KEY), dict[str, Member]()

    @rule(
        target=hosts,
        name=NAMES,
        address=st.text(max_size=8),
        sender_id=st.none() | st.integers(0, NONE - 1),
        users=st.sets(USERS, max_size=4),
        ends=ENDS,
    )
    def put(self, name, address, sender_id, users, ends):
        self.table.put(Member(name, address, sender_id, set(users), ends))
        self.model[name] = Member(name, address, sender_id, set(users), self.kept(ends))
        return name

    @rule(names=st.sets(NAMES, min_size=40, max_size=80))
    def put_many(self, names):
        for name in sorted(names):
            self.put(name, "", None, {name}, 5)

    @rule(name=consumes(hosts))
    def remove(self, name):
        assert self.table.remove(name) == self.model.pop(name, None)

    @rule(share=st.integers(1, 5))
    def remove_many(self, share):
        for name in list(self.model)[::share]:
            self.remove(name)

    @rule(name=hosts | NAMES, ends=ENDS)
    def renew(self, name, ends):
        assert self.table.renew(name, ends) == (name in self.model)
        if name in self.model:
            self.model[name].lease_ends_at = self.kept(ends)

    @rule(now=ENDS)
    def lapsed(self, now):
        ended = [each.host for each in self.model.values() if each.lease_ends_at <= now and each.lease_ends_at < NONE]
        assert sorted(self.table.lapsed(now)) == sorted(ended)

    @rule(name=USERS | NAMES)
    def hosts_of(self, name):
        assert sorted(self.table.hosts_of(name)) == sorted(
            each.host for each in self.model.values() if name in each.users
        )

    @rule()
    def restore(self):
        raw = self.table.pack()
        self.table = Members.unpack(raw)
        assert self.table.pack() == raw

    @rule(name=hosts | NAMES)
    def look_up(self, name):
        assert self.table.get(name) == self.model.get(name)
        assert (name in self.table) == (name in self.model)

    @invariant()
    def the_same(self):
        assert len(self.table) == len(self.model)
        assert as_dict(self.table) == self.model

    @staticmethod
    def kept(ends):
        return math.inf if ends >= NONE else max(0, math.ceil(ends))


TestTableAndDict = TableAndDict.TestCase
TestTableAndDict.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
