"""When an announcement is said: RFC 2974, section 3.1."""

from __future__ import annotations

from mcsa.sap.schedule import Pace, Timer

NOW = 1_800_000_000.0


def test_the_interval_is_that_of_the_rfc():
    pace = Pace()
    assert pace.interval(1, 1_000) == 300.0
    assert pace.interval(150, 1_000) == 300.0
    assert pace.interval(170, 1_000) == 8 * 170 * 1_000 / 4_000 == 340.0
    assert pace.interval(1_000, 1_000) == 360.0  # a tenth of the time after which listeners forget
    assert Pace(limit=8_000, floor=5).interval(100, 500) == 50.0
    assert Pace(floor=5).interval(1, 100) == 5.0
    assert Pace(floor=700).interval(9_000, 1_000) == 700.0


def test_several_that_announce_the_same_share_the_rate():
    pace = Pace(floor=5)
    assert pace.interval(100, 500, announcers=3) == 3 * pace.interval(100, 500) == 300.0


def test_the_wait_is_a_third_off_either_way():
    assert Timer(NOW, 0.0, NOW).reckon(30.0) == NOW + 20.0
    assert abs(Timer(NOW, 0.999999, NOW).reckon(30.0) - NOW - 40.0) < 0.001


def test_at_its_time_it_is_reckoned_again():
    timer = Timer(NOW, 0.5, NOW)
    timer.reckon(30.0)
    assert not timer.is_due(lambda: 30.0, NOW + 29)
    assert not timer.is_due(lambda: 90.0, NOW + 30) and timer.at == NOW + 90  # many have begun to announce meanwhile
    assert not timer.is_due(lambda: 30.0, NOW + 89)
    assert timer.is_due(lambda: 30.0, NOW + 90)


def test_a_clock_that_is_set_back_silences_nobody():
    timer = Timer(NOW, 0.5, NOW)
    timer.reckon(30.0)
    back = NOW - 86_400
    assert not timer.is_due(lambda: 30.0, back) and timer.at == back + 30
    assert timer.is_due(lambda: 30.0, back + 30)
