"""What commands print of what others said."""

from __future__ import annotations

import pytest

from mcsa.cli.showing import show_table


def test_a_title_from_the_network_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]):
    show_table(("title",), [("film\x1b[1A\x1b[2K \x9b2K [bold]",)], "nothing")
    printed = capsys.readouterr().out
    assert "film" in printed and "[bold]" in printed
    assert "\x1b[2K" not in printed and "\x9b" not in printed
