"""tshark and ffmpeg say whether our RTP is RTP, and ffmpeg's RTP is received by us."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from mcsa.audio.format import AudioFormat
from mcsa.audio.receiver import Receiver
from mcsa.audio.rtp import is_rtcp
from mcsa.audio.sender import RtpSender
from mcsa.audio.wav import open_wav, tone, write_wav
from mcsa.laboratory.packets import pcap_header, pcap_record
from tests.audio.parts import MONO, from_seed, packets_of
from tests.judges import require_program

FORMATS = [MONO, AudioFormat(44_100, 1), AudioFormat(44_100, 2)]
LOOPBACK = "127.0.0.1"


def frame(datagram: bytes) -> bytes:
    packet = IP(src=LOOPBACK, dst=LOOPBACK) / UDP(sport=5004, dport=5004) / Raw(datagram)
    return bytes(12) + b"\x08\0" + bytes(packet)


def tshark_says(capture: Path, shown: str, *fields: str) -> list[list[str]]:
    command = [require_program("tshark"), "-r", str(capture), "-d", "udp.port==5004,rtp", "-Y", shown, "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [line.split("\t") for line in said.splitlines()]


@pytest.mark.parametrize("audio_format", FORMATS, ids=str)
def test_tshark_reads_every_field_of_ours(tmp_path: Path, audio_format: AudioFormat) -> None:
    stream = RtpSender(audio_format, from_seed(4))
    start = stream.control(1_700_000_000.0)
    packets = packets_of(tone(audio_format, 0.1), stream)
    end = stream.control(1_700_000_001.0, goodbye=True)
    capture = tmp_path / "rtp.pcap"
    frames = enumerate([start, *packets, end])
    capture.write_bytes(pcap_header() + b"".join(pcap_record(number, frame(each)) for number, each in frames))

    fields = ("rtp.version", "rtp.p_type", "rtp.seq", "rtp.timestamp", "rtp.ssrc", "rtp.payload")
    said = tshark_says(capture, "rtp", *fields)
    assert len(said) == len(packets)
    for number, ((*numbers, payload), packet) in enumerate(zip(said, packets, strict=True)):
        timestamp = (stream.first.timestamp + number * audio_format.frames_per_packet) % 2**32
        expected = [2, audio_format.payload_type, (stream.first.sequence + number) % 2**16, timestamp, stream.ssrc]
        assert [int(value, 0) for value in numbers] == expected
        assert payload == packet[12:].hex()

    told = ("rtcp.pt", "rtcp.sender.packetcount", "rtcp.sender.octetcount", "rtcp.sdes.prefix.string")
    begun, ended = tshark_says(capture, "rtcp", *told)
    assert begun == ["200,202", "0", "0", "rtpmap,RTP-Info"]
    assert ended == ["200,202,203", str(stream.packets), str(stream.octets), "rtpmap,RTP-Info"]
    assert tshark_says(capture, "_ws.malformed || rtcp.length_check == 0", "frame.number") == []


@pytest.fixture
def door() -> Iterator[socket.socket]:
    """A socket on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        made.bind((LOOPBACK, 0))
        made.settimeout(30)
        yield made


@pytest.mark.parametrize("audio_format", FORMATS, ids=str)
def test_ffmpeg_plays_ours_bit_for_bit(tmp_path: Path, audio_format: AudioFormat) -> None:
    ffmpeg, samples, stream = require_program("ffmpeg"), tone(audio_format, 1.0), RtpSender(audio_format, from_seed(4))
    port = free_even_port()
    number = audio_format.payload_type
    lines = ["v=0", f"o=- 1 1 IN IP4 {LOOPBACK}", "s=judge", f"c=IN IP4 {LOOPBACK}", "t=0 0"]
    lines += [f"m=audio {port} RTP/AVP {number}", f"a=rtpmap:{number} {audio_format}", ""]
    (tmp_path / "x.sdp").write_text("\r\n".join(lines))
    command = [ffmpeg, "-v", "error", "-protocol_whitelist", "file,udp,rtp", "-i", str(tmp_path / "x.sdp")]
    command += ["-f", "s16le", "-y", str(tmp_path / "played.raw")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as playing:
        await_port(playing, port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
            for datagram in packets_of(samples, stream):
                door.sendto(datagram, (LOOPBACK, port))
                time.sleep(0.002)
            while playing.poll() is None:
                door.sendto(stream.control(time.time(), goodbye=True), (LOOPBACK, port))
                time.sleep(0.1)
        _, said = playing.communicate(timeout=30)
    assert playing.returncode == 0, said
    assert (tmp_path / "played.raw").read_bytes() == samples


def free_even_port() -> int:
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
            if port % 2 == 0:
                return port


def await_port(process: subprocess.Popen[str], port: int) -> None:
    """Until somebody has this UDP port."""
    while not any(f":{port:04X} " in line for line in Path("/proc/net/udp").read_text().splitlines()):
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.parametrize("audio_format", FORMATS, ids=str)
def test_we_receive_ffmpegs(tmp_path: Path, door: socket.socket, audio_format: AudioFormat) -> None:
    write_wav(tmp_path / "in.wav", audio_format, tone(audio_format, 1.0))
    port = door.getsockname()[1]
    command = [require_program("ffmpeg"), "-v", "error", "-re", "-i", str(tmp_path / "in.wav"), "-c:a", "pcm_s16be"]
    command += ["-payload_type", str(audio_format.payload_type), "-rtpflags", "send_bye", "-f", "rtp"]
    command += [f"rtp://{LOOPBACK}:{port}?rtcpport={port}&pkt_size=1200"]
    receiver = Receiver(tmp_path / "out.wav", audio_format)
    kinds = set()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as sending:
        while not receiver.ended:
            datagram = door.recv(65_535)
            kinds.add(is_rtcp(datagram))
            receiver.take(0, datagram)
        assert sending.wait(30) == 0
    receiver.close()
    [stream] = receiver.report()["streams"]
    assert (stream["complete"], stream["gaps"], kinds) == (True, [], {True, False})
    recording, _ = open_wav(tmp_path / "out.wav")
    with recording:
        assert recording.readframes(10**7) == tone(audio_format, 1.0)
