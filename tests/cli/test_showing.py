"""What commands print of what others said."""

from __future__ import annotations

import pytest

from mcsa.cli.showing import short, show_table


def test_a_title_from_the_network_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]):
    show_table(("title",), [("film\x1b[1A\x1b[2K \x9b2K [bold]",)], "nothing")
    printed = capsys.readouterr().out
    assert "film" in printed and "[bold]" in printed
    assert "\x1b[2K" not in printed and "\x9b" not in printed


def test_a_namesake_of_another_domain_is_told_apart():
    own, other = "spiffe://a.example/user/bob", "spiffe://b.example/user/bob"
    assert short(own) == short(own, own) == short(other) == "bob"
    assert short(other, own) == "bob (b.example)"
