"""How many files a process may have open."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from mcsa.errors import Refused
from mcsa.shell.limits import KEPT_FILES, check_open_files, is_kept, raise_open_files


@pytest.fixture
def few() -> Iterator[int]:
    """A soft limit that is lower than the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_doesnt_fit_is_refused_with_the_command(few: int) -> None:
    check_open_files(16, "a group")
    with pytest.raises(Refused, match="LimitNOFILE=65536") as refused:
        check_open_files(512, "a group")
    assert (refused.value.code, refused.value.rule) == ("limit", "RLIMIT_NOFILE")


def test_a_process_takes_what_it_may_have(few: int) -> None:
    raise_open_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (few, few)
    check_open_files(512, "a group")


def test_the_last_descriptors_are_kept(few: int) -> None:
    assert [is_kept(each) for each in (3, 511 - KEPT_FILES, 512 - KEPT_FILES, 511)] == [False, False, True, True]
