from __future__ import annotations

from pathlib import Path

import pytest

from mcsa.audio.format import AudioFormat
from mcsa.audio.rtcp import Control, First, parse_rtcp
from mcsa.audio.rtp import parse_rtp
from mcsa.audio.sender import LocalSender, RtpSender, due_after, send_file
from mcsa.audio.wav import tone, write_wav
from mcsa.errors import Refused
from tests.audio.parts import MONO, PORT, from_seed, packets_of, wire


def test_numbers_and_timestamps_go_on_over_their_wraps() -> None:
    stream = RtpSender(MONO, lambda size: b"\xff" * size)
    packets = [parse_rtp(each) for each in packets_of(bytes(960 * 3), stream)]
    assert [packet.sequence for packet in packets] == [65_535, 0, 1]
    assert [packet.timestamp for packet in packets] == [2**32 - 1, 479, 959]
    assert {packet.ssrc for packet in packets} == {2**32 - 1}
    assert {packet.payload_type for packet in packets} == {96}


def test_what_it_says_of_itself() -> None:
    stream = RtpSender(MONO, lambda size: b"\1" * size)
    first = First(0x0101, 0x01010101)
    assert parse_rtcp(stream.control(5.0)) == Control(0x01010101, 0, 0, (96, MONO), first)
    packets_of(bytes(970), stream)
    assert parse_rtcp(stream.control(5.0, goodbye=True)) == Control(0x01010101, 2, 970, (96, MONO), first, True)


def test_two_streams_differ() -> None:
    one, other = (RtpSender(MONO, from_seed(seed)) for seed in (1, 2))
    assert one.ssrc != other.ssrc
    assert one.first != other.first


def test_samples_are_in_network_order() -> None:
    [packet] = packets_of(b"\1\0\2\0", RtpSender(AudioFormat(44_100, 1), from_seed(1)))
    assert parse_rtp(packet).payload == b"\0\1\0\2"


def test_when_packets_are_due() -> None:
    assert [due_after(at, 5.0) for at in (0.0, 4.5, 5.0, 15.0)] == [0.0, 4.5, 5.0, 6.0]
    assert due_after(10.0, 0.0) == 1.0


def test_nobody_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="Nobody answers"):
        LocalSender(tmp_path / "none.sock", PORT)


def test_an_msm_that_ends_is_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", MONO, tone(MONO, 1.0))
    with wire(tmp_path / "run") as between:
        with LocalSender(between.here.path, PORT) as to:
            to.send(b"the client is accepted")
            between.close()
            with pytest.raises(Refused, match="The MSM ended"):
                send_file(tmp_path / "a.wav", to, from_seed(1), 5.0)


def test_it_says_goodbye_when_it_is_stopped(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", MONO, tone(MONO, 1.0))
    heard: list[bytes] = []

    def swallow(payload: bytes) -> list[bytes]:
        heard.append(payload)
        return []

    with wire(tmp_path / "run", swallow) as between:
        with LocalSender(between.here.path, PORT) as to:
            stream = send_file(tmp_path / "a.wav", to, from_seed(1), 0.0, lambda: len(heard) > 10)
    said = parse_rtcp(heard[-1])
    assert (said.goodbye, said.packets) == (True, stream.packets)
    assert stream.packets < 100
