"""What a dishonest writer can do to its record: each attack, and the alarm that it raises."""

from __future__ import annotations

import pytest

from mcsa.control.fragments import sign_message
from mcsa.errors import Rejected
from mcsa.record.verify import verify_record
from mcsa.v1 import conference_pb2 as wire
from tests.record.parts import Change, Conference, find, rechained, rewritten, whole
from tests.world import World


@pytest.fixture(scope="module")
def one() -> Conference:
    return whole()


def refused(one: Conference, raw: bytes) -> Rejected:
    with pytest.raises(Rejected) as caught:
        verify_record(raw, one.world.trust())
    return caught.value


def attack(one: Conference, change: Change, *, open_: bool = False) -> Rejected:
    """The alarm that a change raises, chain put right. The Authorizer's countersignature stays, or goes (`open_`)."""
    return refused(one, rewritten(one.writer.serialised(), change, open_=open_))


def countersigned_anew(one: Conference, change: Change, after: float = 1.0) -> bytes:
    """Changed, chain put right, and countersigned again by the true Authorizer, who sees only a hash."""
    raw = rewritten(one.writer.serialised(), change, open_=True)
    return recountersigned(one, raw, after)


def recountersigned(one: Conference, raw: bytes, after: float = 1.0) -> bytes:
    writer = type(one.writer).resume(raw)
    statement = one.countersignature(writer.head, after=after)
    record = wire.Record.FromString(raw)
    entries = [wire.RecordEntry.FromString(entry) for entry in record.entries]
    time_ms = round((one.now + after) * 1000)
    entries.append(wire.RecordEntry(kind="countersignature", countersignature=statement, time_ms=time_ms))
    return rechained(record, entries)


def drop(body: str, skip: int = 0) -> Change:
    def change(entries: list[wire.RecordEntry]) -> None:
        del entries[find(entries, body, skip)]

    return change


# ---- the chain itself


def test_an_entry_removed_without_mending_the_chain_breaks_it(one: Conference):
    record = wire.Record.FromString(one.writer.serialised())
    del record.entries[5]
    assert refused(one, record.SerializeToString(deterministic=True)).detail.startswith("entry 6: it says that it is")


def test_an_entry_renumbered_without_its_hash_breaks_the_chain(one: Conference):
    record = wire.Record.FromString(one.writer.serialised())
    del record.entries[5]
    entry = wire.RecordEntry.FromString(record.entries[5])
    entry.number = 6
    record.entries[5] = entry.SerializeToString(deterministic=True)
    assert refused(one, record.SerializeToString(deterministic=True)).cause == "chain"


def test_time_does_not_go_back(one: Conference):
    def change(entries: list[wire.RecordEntry]) -> None:
        entries[4].time_ms = entries[3].time_ms - 1

    assert attack(one, change, open_=True).detail == "entry 5: its time is before that of the entry before it"


# ---- entries removed


@pytest.mark.parametrize("body", ["run_start", "run_round", "activate", "receipt", "ejection", "absence"])
def test_a_message_removed_from_the_middle_of_a_stream_is_a_gap(one: Conference, body: str):
    assert attack(one, drop(body)).cause == "gap"
    assert refused(one, countersigned_anew(one, drop(body))).cause == "gap"


def test_an_introduction_removed_leaves_a_stream_of_nobody_known(one: Conference):
    assert attack(one, drop("introduction", 2), open_=True).cause == "stream"


def test_a_beginning_removed_is_missed_at_the_end(one: Conference):
    """The chain is put to the message after it, which any writer can do: no signature covers it."""

    def change(entries: list[wire.RecordEntry]) -> None:
        chain = list(entries[find(entries, "introduction", 2)].fragments[0].certificate_chain)
        del entries[find(entries, "introduction", 2)]
        entries[find(entries, "run_round", 2)].fragments[0].certificate_chain.extend(chain)

    rejected = refused(one, countersigned_anew(one, change))
    carol = one.world.user("carol").id
    assert (rejected.cause, rejected.detail) == (
        "incomplete",
        f"the record is not whole, it lacks messages 1 to 1 of {carol}",
    )


def test_the_last_message_of_a_stream_removed_and_countersigned_again_later_is_missed_twice():
    one = Conference()
    one.introduce("alice", "bob", "carol")
    one.seal("carol")
    one.close()
    one.countersign()
    soon = refused(one, countersigned_anew(one, drop("sealed")))
    assert (soon.cause, soon.detail.endswith(f"messages 2 to 2 of {one.world.user('carol').id}")) == (
        "incomplete",
        True,
    )
    late = refused(one, countersigned_anew(one, drop("sealed"), after=61.0))
    assert late.cause == "countersignature-time" and "61 s after" in late.detail


def test_the_last_words_of_somebody_thrown_out_can_be_suppressed_but_not_the_receipts_for_them(one: Conference):
    """An ejection may reach an honest writer before them: completeness can't be asked for."""
    found = verify_record(countersigned_anew(one, drop("sealed")), one.world.trust())
    assert [noted.sentence for noted in found.irregular] == ["a receipt for a message that is not in this record"]


def test_a_whole_stream_removed_is_missed():
    one = Conference()
    one.introduce("alice", "bob", "carol")
    one.close()
    one.countersign()
    rejected = refused(one, countersigned_anew(one, drop("introduction", 2)))
    assert rejected.cause == "incomplete" and one.speaker("carol").process_id.hex() in rejected.detail


def test_the_end_removed_and_countersigned_is_no_end(one: Conference):
    def change(entries: list[wire.RecordEntry]) -> None:
        del entries[find(entries, "closing") : find(entries, "departure") + 1]

    assert "neither the Coordinator's closing" in refused(one, countersigned_anew(one, change)).detail


def test_a_tail_removed_leaves_an_open_record_that_says_so(one: Conference):
    def change(entries: list[wire.RecordEntry]) -> None:
        del entries[-4:]

    found = verify_record(rewritten(one.writer.serialised(), change), one.world.trust())
    assert not found.countersigned and not found.complete and found.ended_by == ""


def test_the_writers_own_messages_removed_leave_nobodys_record():
    one = Conference(writer="dave")
    one.introduce("alice", "bob")
    one.close()
    one.countersign()
    assert refused(one, one.writer.serialised()).cause == "writer"


def test_another_writers_name_is_refused(one: Conference):
    record = wire.Record.FromString(one.writer.serialised())
    record.user = str(one.world.user("mallory").id)
    assert refused(one, record.SerializeToString(deterministic=True)).cause == "writer"
    record.user = str(one.world.host("beta").id)
    assert refused(one, record.SerializeToString(deterministic=True)).cause == "name"


# ---- entries altered


def test_a_message_altered_is_not_signed(one: Conference):
    def change(entries: list[wire.RecordEntry]) -> None:
        fragment = entries[find(entries, "sealed")].fragments[0]
        fragment.body = fragment.body.replace(b"sealed", b"forged")

    rejected = attack(one, change)
    assert (rejected.cause, rejected.detail[:9]) == ("signature", "entry 13:")


def test_a_message_given_to_another_is_not_signed_by_it(one: Conference):
    def change(entries: list[wire.RecordEntry]) -> None:
        entries[find(entries, "sealed")].fragments[0].user = str(one.world.user("bob").id)

    assert attack(one, change).cause == "user"


def test_a_stream_belongs_to_one_certificate(one: Conference):
    """Mallory signs in carol's stream, with its own certificate beside it."""

    def change(entries: list[wire.RecordEntry]) -> None:
        carol = one.speaker("carol")
        raw = wire.ControlMessage(sealed=wire.SealedMessage(sframe=b"forged")).SerializeToString()
        forged = sign_message(one.world.user("mallory"), one.id, carol.process_id, 4, raw)
        entry = entries[find(entries, "sealed")]
        del entry.fragments[:]
        entry.fragments.extend(forged)
        entry.fragments[0].certificate_chain.extend(one.world.user("mallory").chain)

    assert attack(one, change).cause == "stream"


def test_fragments_of_a_message_can_not_be_left_out_or_moved(one: Conference):
    def shorten(entries: list[wire.RecordEntry]) -> None:
        del entries[find(entries, "sealed", 1)].fragments[-1]

    def turn(entries: list[wire.RecordEntry]) -> None:
        entry = entries[find(entries, "sealed", 1)]
        pieces = list(entry.fragments)
        assert len(pieces) > 1
        del entry.fragments[:]
        entry.fragments.extend(reversed(pieces))

    assert attack(one, shorten).cause == "pieces"
    assert attack(one, turn).cause == "pieces"


def test_a_time_altered_is_not_what_was_countersigned(one: Conference):
    def change(entries: list[wire.RecordEntry]) -> None:
        entries[4].time_ms += 1

    rejected = attack(one, change)
    assert rejected.cause == "countersignature" and "something else" in rejected.detail


def test_something_hidden_in_an_entry_is_found(one: Conference):
    record = wire.Record.FromString(one.writer.serialised())
    record.entries[-1] = record.entries[-1] + b"\xfa\x01\x01x"  # field 31
    assert refused(one, record.SerializeToString(deterministic=True)).cause == "malformed"


# ---- entries reordered


def test_two_messages_of_one_stream_do_not_change_places(one: Conference):
    def change(entries: list[wire.RecordEntry]) -> None:
        first, second = find(entries, "run_start"), find(entries, "run_round")
        entries[first].fragments, entries[second].fragments
        swap(entries, first, second)

    assert attack(one, change).cause == "gap"


def test_messages_of_two_streams_that_change_places_are_not_what_was_countersigned(one: Conference):
    def change(entries: list[wire.RecordEntry]) -> None:
        swap(entries, find(entries, "introduction", 1), find(entries, "introduction", 2))

    assert attack(one, change).cause == "countersignature"
    verify_record(rewritten(one.writer.serialised(), change, open_=True), one.world.trust())  # the writer's word alone


def test_a_message_moved_behind_the_ejection_of_its_user_is_refused(one: Conference):
    def change(entries: list[wire.RecordEntry]) -> None:
        rounds = [find(entries, "run_round", skip) for skip in range(6)]
        last_of_carol = find(entries, "sealed")
        assert last_of_carol > max(rounds)
        entry = entries.pop(last_of_carol)
        entry.time_ms = entries[find(entries, "ejection")].time_ms
        entries.insert(find(entries, "ejection") + 1, entry)

    rejected = attack(one, change)
    assert rejected.cause == "ejected" and str(one.world.user("carol").id) in rejected.detail


def swap(entries: list[wire.RecordEntry], first: int, second: int) -> None:
    """Exchanges two entries, times as they were in their places."""
    times = entries[first].time_ms, entries[second].time_ms
    entries[first], entries[second] = entries[second], entries[first]
    entries[first].time_ms, entries[second].time_ms = times


# ---- entries inserted


def insert(fragments: tuple[wire.Fragment, ...]) -> Change:
    def change(entries: list[wire.RecordEntry]) -> None:
        time_ms = entries[-3].time_ms
        entries.insert(-2, wire.RecordEntry(kind="message", fragments=fragments, time_ms=time_ms))

    return change


def test_a_message_said_once_is_not_there_twice(one: Conference):
    def change(entries: list[wire.RecordEntry]) -> None:
        insert(tuple(entries[find(entries, "absence")].fragments))(entries)

    assert attack(one, change).cause == "order"


def test_a_message_of_another_conference_is_refused(one: Conference):
    other = Conference(one.world)
    other.id = bytes(16)
    assert attack(one, insert(other.speaker("mallory").sign(introduction=wire.Introduction()))).cause == "conference"


def test_a_message_of_another_domain_is_refused(one: Conference):
    stranger = World("example.org").user("mallory")  # the same names, another authority
    raw = wire.ControlMessage(introduction=wire.Introduction()).SerializeToString()
    assert attack(one, insert(sign_message(stranger, one.id, bytes(16), 1, raw))).cause == "certificate"


def test_a_message_of_a_host_is_refused(one: Conference):
    raw = wire.ControlMessage(introduction=wire.Introduction()).SerializeToString()
    host = one.world.host("beta")
    assert attack(one, insert(sign_message(host, one.id, bytes(16), 1, raw))).cause == "kind"


def test_a_genuine_message_inserted_later_is_not_what_was_countersigned(one: Conference):
    raw = wire.ControlMessage(introduction=wire.Introduction()).SerializeToString()
    eve = sign_message(one.world.user("eve"), one.id, b"e" * 16, 1, raw)
    rejected = attack(one, insert(eve))
    assert rejected.cause == "countersignature" and "something else" in rejected.detail


@pytest.mark.parametrize("sequence", [0, 2])
def test_a_message_that_no_stream_holds_is_refused(one: Conference, sequence: int):
    raw = wire.ControlMessage(introduction=wire.Introduction()).SerializeToString()
    eve = one.world.user("eve")
    fragments = sign_message(eve, one.id, b"e" * 16, sequence, raw)
    if sequence:
        fragments[0].certificate_chain.extend(eve.chain)
    assert attack(one, insert(fragments)).cause == ("message" if sequence else "status")


def test_a_message_that_is_no_protobuf_is_refused(one: Conference):
    eve = one.world.user("eve")
    assert attack(one, insert(sign_message(eve, one.id, b"e" * 16, 1, b"\xff\xff"))).cause == "message"


def test_an_entry_without_fragments_or_with_two_contents_is_refused(one: Conference):
    def both(entries: list[wire.RecordEntry]) -> None:
        entries[3].description.CopyFrom(one.statement)

    assert attack(one, insert(())).cause == "malformed"
    assert attack(one, both).cause == "malformed"


def test_a_second_description_is_refused(one: Conference):
    def change(entries: list[wire.RecordEntry]) -> None:
        entries.insert(3, wire.RecordEntry(kind="description", description=one.statement, time_ms=entries[3].time_ms))

    assert attack(one, change).cause == "place"


def test_nothing_comes_after_the_countersignature(one: Conference):
    def change(entries: list[wire.RecordEntry]) -> None:
        entry = wire.RecordEntry()
        entry.CopyFrom(entries[find(entries, "departure")])
        entry.time_ms = entries[-1].time_ms
        entries.append(entry)

    assert attack(one, change).cause == "place"


# ---- the description


def test_a_record_without_its_description_is_refused(one: Conference):
    def change(entries: list[wire.RecordEntry]) -> None:
        del entries[0]

    assert attack(one, change).cause == "place"
    empty = wire.Record(version=1, conference_id=one.id, user=str(one.world.user("bob").id))
    assert refused(one, empty.SerializeToString(deterministic=True)).cause == "place"


def test_a_description_by_somebody_else_is_refused(one: Conference):
    def forge(signer: str, statement: bytes) -> Change:
        def change(entries: list[wire.RecordEntry]) -> None:
            signed = one.world.user(signer).sign_statement("mcsa conference v1", statement)
            entries[0].description.CopyFrom(signed)

        return change

    assert attack(one, forge("mallory", one.statement.statement)).cause == "description"
    assert attack(one, forge("alice", b"\xff")).cause == "description"
    changed = one.statement.statement.replace(b"board", b"horde")
    assert attack(one, forge("alice", changed)).cause == "conference"


# ---- the countersignature


def countersigned(one: Conference, **changes: object) -> Rejected:
    """The record with another countersignature over its true head."""
    one_more = whole(Conference(one.world))
    raw = one_more.writer.serialised()
    record = wire.Record.FromString(raw)
    entries = [wire.RecordEntry.FromString(entry) for entry in record.entries]
    statement = one_more.countersignature(entries[-1].previous, **changes)  # type: ignore[arg-type]
    entries[-1].countersignature.CopyFrom(statement)
    entries[-1].time_ms = round((one_more.now + float(changes.get("after", 1.0))) * 1000)  # type: ignore[arg-type]
    return refused(one_more, rechained(record, entries))


def test_another_authorizer_can_not_countersign(one: Conference):
    other = one.world.credentials("authorizer", "other")
    rejected = countersigned(one, signer=other)
    assert rejected.cause == "countersignature" and str(other.id) in rejected.detail


@pytest.mark.parametrize(("kind", "name"), [("host", "beta"), ("user", "bob"), ("directory", "sd")])
def test_nobody_but_an_authorizer_can_countersign(one: Conference, kind: str, name: str):
    assert countersigned(one, signer=one.world.credentials(kind, name)).cause == "kind"


def test_a_countersignature_from_another_record_is_refused(one: Conference):
    def change(entries: list[wire.RecordEntry]) -> None:
        other = wire.Record.FromString(whole(Conference(one.world, writer="alice")).writer.serialised())
        entries[-1].CopyFrom(wire.RecordEntry.FromString(other.entries[-1]))

    assert attack(one, change).cause == "countersignature"


def test_a_countersignature_of_another_conference_is_refused(one: Conference):
    assert countersigned(one, conference_id=b"x" * 16).cause == "conference"


@pytest.mark.parametrize("after", [-61.0, 61.0])
def test_a_countersignature_is_made_at_the_end(one: Conference, after: float):
    assert countersigned(one, after=after).cause == "countersignature-time"


def test_the_countersignatures_time_is_the_statements(one: Conference):
    def change(entries: list[wire.RecordEntry]) -> None:
        entries[-1].time_ms += 1

    assert attack(one, change).cause == "countersignature-time"


def test_a_countersignature_altered_is_refused(one: Conference):
    def garble(entries: list[wire.RecordEntry]) -> None:
        entries[-1].countersignature.statement = b"\xff"

    def forge(entries: list[wire.RecordEntry]) -> None:
        signature = entries[-1].countersignature.signature
        entries[-1].countersignature.signature = signature[:-1] + bytes([signature[-1] ^ 1])

    assert attack(one, garble).cause == "countersignature"
    assert attack(one, forge).cause == "signature"
