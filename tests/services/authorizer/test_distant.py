"""What a subgroup is told of other subgroups' senders: what has changed, once."""

from mcsa.v1.types_pb2 import RosterEntry
from services.authorizer.distant import Distant


def wanted(**addresses: str) -> dict[int, RosterEntry]:
    return {len(host): RosterEntry(sender_id=len(host), host=host, address=addresses[host]) for host in addresses}


def test_what_has_changed_is_told_once() -> None:
    distant = Distant()
    distant.wanted = wanted(a="10.0.0.1", bb="10.0.0.2")
    assert distant.is_behind
    assert distant.catch_up() == (list(distant.wanted.values()), [])
    assert not distant.is_behind
    assert distant.catch_up() == ([], [])


def test_who_has_moved_is_added_again_and_who_is_gone_removed() -> None:
    distant = Distant()
    distant.wanted = wanted(a="10.0.0.1", bb="10.0.0.2")
    distant.catch_up()
    distant.wanted = wanted(bb="10.0.0.9")
    added, removed = distant.catch_up()
    assert [entry.address for entry in added] == ["10.0.0.9"]
    assert removed == [1]


def test_where_nobody_was_told_anything_all_of_it_is_told_again() -> None:
    distant = Distant()
    distant.wanted = wanted(a="10.0.0.1")
    distant.catch_up()
    distant.forget()
    assert distant.is_behind and distant.size == 0
    assert distant.catch_up() == (list(distant.wanted.values()), [])
