"""Admissions of the last minutes: found by request, the last request of a host found at once, forgotten in time."""

from mcsa.v1.authorizer_log_pb2 import Admission
from services.authorizer.admissions import ADMISSIONS_FOR, REPORTS_FOR, Admissions

NOW = 1_000_000.0


def admission(request: bytes, host: str, asked_ms: int, at: float = NOW) -> Admission:
    return Admission(request_hash=request, host=host, sender_id=7, asked_ms=asked_ms, time_ms=round(at * 1000))


def test_an_admission_is_found_by_its_request_and_no_other() -> None:
    admissions = Admissions([admission(b"a", "alpha", 1)])
    assert admissions.of(b"a").sender_id == 7
    assert admissions.of(b"b") == Admission()


def test_the_last_request_of_a_host_is_known_whatever_the_order() -> None:
    admissions = Admissions([admission(b"b", "alpha", 20), admission(b"a", "alpha", 10), admission(b"c", "beta", 5)])
    assert [admissions.asked_last(host) for host in ("alpha", "beta", "gamma")] == [20, 5, 0]


def test_what_is_too_old_is_forgotten_and_what_is_left_still_counts() -> None:
    admissions = Admissions([admission(b"b", "alpha", 20), admission(b"a", "alpha", 10, NOW + 1)])
    admissions.forget(NOW + ADMISSIONS_FOR, reported=False)
    assert [each.request_hash for each in admissions] == [b"a"]
    assert admissions.asked_last("alpha") == 10
    admissions.forget(NOW + ADMISSIONS_FOR + 1, reported=False)
    assert not list(admissions)
    assert admissions.asked_last("alpha") == 0


def test_where_distributors_report_admissions_are_kept_for_their_reports() -> None:
    admissions = Admissions([admission(b"a", "alpha", 1)])
    admissions.forget(NOW + ADMISSIONS_FOR + REPORTS_FOR - 1, reported=True)
    assert admissions.asked_last("alpha") == 1
    admissions.forget(NOW + ADMISSIONS_FOR + REPORTS_FOR, reported=True)
    assert admissions.asked_last("alpha") == 0


def test_the_same_request_told_twice_is_one_admission() -> None:
    admissions = Admissions([admission(b"a", "alpha", 1), admission(b"a", "alpha", 1)])
    assert len(list(admissions)) == 1
    admissions.forget(NOW + ADMISSIONS_FOR, reported=False)
    assert admissions.asked_last("alpha") == 0


def test_an_admission_is_kept_by_itself() -> None:
    told = admission(b"a", "alpha", 1)
    admissions = Admissions([told])
    told.sender_id = 9
    assert admissions.of(b"a").sender_id == 7
