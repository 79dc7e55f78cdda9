"""Streams into files: whole ones, torn ones, several, and what isn't one."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from mcsa.audio import receiver as module
from mcsa.audio.format import AudioFormat
from mcsa.audio.receiver import Receiver
from mcsa.audio.rtcp import encode_goodbye, encode_report
from mcsa.audio.rtp import RtpPacket
from mcsa.audio.sender import RtpSender
from mcsa.audio.wav import open_wav, swap, tone
from tests.audio.parts import MONO, SENDER, from_seed, packets_of

SAMPLES = tone(MONO, 0.5)  # 50 packets of 960 bytes
STEREO = AudioFormat(44_100, 2)


def stream_of(seed: int = 1) -> RtpSender:
    return RtpSender(MONO, from_seed(seed))


def received(tmp_path: Path, datagrams: list[bytes], dynamic: AudioFormat = MONO) -> tuple[dict[str, Any], bytes]:
    """The report, the first stream's part of it with what was rejected, and the file's samples."""
    receiver = Receiver(tmp_path / "out.wav", dynamic)
    for datagram in datagrams:
        receiver.take(SENDER, datagram)
    receiver.close()
    report = receiver.report()
    recording, _ = open_wav(tmp_path / "out.wav")
    with recording:
        return report["streams"][0] | {"rejected": report["rejected"]}, recording.readframes(10**7)


def whole(stream: RtpSender) -> list[bytes]:
    """Begin, packets, end."""
    return [stream.control(0.0), *packets_of(SAMPLES, stream), stream.control(1.0, goodbye=True)]


def test_bit_for_bit_where_nothing_was_lost(tmp_path: Path) -> None:
    report, samples = received(tmp_path, whole(stream_of()))
    assert samples == SAMPLES
    counted = {name: report[name] for name in ("sent", "received", "lost", "duplicates", "reordered", "gaps")}
    assert counted == {"sent": 50, "received": 50, "lost": 0, "duplicates": 0, "reordered": 0, "gaps": []}
    assert (report["complete"], report["format"], report["rejected"]) == (True, "L16/48000/1", {})


def test_any_order_and_duplicates_give_the_same_file(tmp_path: Path) -> None:
    begin, *packets, end = whole(stream_of())
    random.Random(3).shuffle(packets)
    report, samples = received(tmp_path, [begin, *packets, end, *packets[:5]])
    assert samples == SAMPLES
    assert (report["received"], report["lost"], report["duplicates"]) == (50, 0, 5)
    assert report["reordered"] > 10
    assert (report["gaps"], report["silent_frames"]) == ([], 0)


@pytest.mark.parametrize("lost", [{0}, {49}, {0, 1, 2, 48, 49}, {10}, {10, 11, 20}, set(range(1, 49)), set(range(50))])
def test_what_is_lost_is_silent_and_told(tmp_path: Path, lost: set[int]) -> None:
    begin, *packets, end = whole(stream_of())
    report, samples = received(tmp_path, [begin, *(p for n, p in enumerate(packets) if n not in lost), end])
    parts = [bytes(960) if n in lost else SAMPLES[960 * n : 960 * (n + 1)] for n in range(50)]
    assert samples == b"".join(parts)
    assert (report["received"], report["lost"], report["complete"]) == (50 - len(lost), len(lost), False)
    assert report["silent_frames"] == 480 * len(lost)
    assert sum(gap["for"] for gap in report["gaps"]) == pytest.approx(len(lost) / 100)


def test_where_the_gaps_are(tmp_path: Path) -> None:
    begin, *packets, end = whole(stream_of())
    late = packets[10:13]
    report, _ = received(tmp_path, [begin, *packets[3:10], *packets[20:], late[1], end])
    assert report["gaps"] == [{"at": 0.0, "for": 0.03}, {"at": 0.1, "for": 0.01}, {"at": 0.12, "for": 0.08}]


def test_without_the_end_nobody_can_say_that_it_is_complete(tmp_path: Path) -> None:
    report, samples = received(tmp_path, whole(stream_of())[:-1])
    assert samples == SAMPLES
    assert (report["ended"], report["complete"], report["lost"]) == (False, False, 0)


def test_who_comes_late_gets_the_rest_without_silence_before(tmp_path: Path) -> None:
    _, *packets, end = whole(stream_of())
    report, samples = received(tmp_path, [*packets[30:], end])
    assert samples == SAMPLES[960 * 30 :]
    assert (report["received"], report["lost"], report["complete"], report["gaps"]) == (20, 30, False, [])


def test_a_late_description_brings_no_silence_either(tmp_path: Path) -> None:
    stream = stream_of()
    packets = packets_of(SAMPLES, stream)
    report, samples = received(tmp_path, [stream.control(0.0), *packets[30:], stream.control(1.0, goodbye=True)])
    assert samples == SAMPLES[960 * 30 :]
    assert report["lost"] == 30


def test_foreign_senders_without_our_items(tmp_path: Path) -> None:
    """Static payload types speak for themselves, for others it is the receiver's format."""
    packets = [RtpPacket(10, n, 100 * n, 5, swap(bytes([n] * 400))).encode() for n in range(3)]
    report, samples = received(tmp_path, [encode_report(5, 0.0, 0, 0, 0), *packets])
    assert report["format"] == str(STEREO)
    assert samples == b"".join(bytes([n] * 400) for n in range(3))
    report, _ = received(tmp_path, [RtpPacket(97, 0, 0, 5, bytes(6)).encode()], AudioFormat(16_000, 3))
    assert (report["format"], report["seconds"]) == ("L16/16000/3", round(1 / 16_000, 6))


def test_several_streams_in_files_of_their_own_also_of_one_ssrc(tmp_path: Path) -> None:
    receiver, stream = Receiver(tmp_path / "out.wav", MONO), stream_of()
    for datagram in whole(stream):
        receiver.take(1, datagram)
        assert not receiver.ended or datagram[-8:] == encode_goodbye(stream.ssrc)
        receiver.take(2, datagram)
    receiver.close()
    files = [Path(each["file"]).name for each in receiver.report()["streams"]]
    assert files == ["out.wav", f"out.2.{stream.ssrc:08x}.wav"]
    assert receiver.ended
    assert receiver.complete
    assert (tmp_path / files[0]).read_bytes() == (tmp_path / files[1]).read_bytes()


def test_streams_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_STREAMS", 2)
    report, _ = received(tmp_path, [stream_of(seed).control(0.0) for seed in range(5)])
    assert report["rejected"] == {"streams": 3}


@pytest.mark.parametrize(
    ("datagram", "cause"),
    [
        (b"", "rtp"),
        (b"\x80\xc8", "rtcp"),
        (RtpPacket(11, 6, 600, 5, bytes(400)).encode(), "payload-type"),
        (RtpPacket(10, 6, 600, 5, bytes(399)).encode(), "payload"),
        (RtpPacket(10, 6, 600, 5, b"").encode(), "payload"),
        (RtpPacket(10, 6, 499, 5, bytes(400)).encode(), "timestamp"),
        (RtpPacket(10, 4, 600, 5, bytes(400)).encode(), "sequence"),
        (RtpPacket(10, 6, 500 + 2**31 - 1, 5, bytes(400)).encode(), "length"),
    ],
)
def test_what_does_not_belong_is_counted_and_changes_nothing(tmp_path: Path, datagram: bytes, cause: str) -> None:
    good = RtpPacket(10, 5, 500, 5, b"\1\2" * 200).encode()
    report, samples = received(tmp_path, [good, datagram])
    assert report["rejected"] == {cause: 1}
    assert samples == b"\2\1" * 200
