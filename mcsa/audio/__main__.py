"""`python -m mcsa.audio send|receive`: a WAV file into a group, and out of it.

Exit codes: 0, 2 where something was asked that can't be done (said on stderr). SIGTERM and SIGINT end both cleanly:
the sender says goodbye, the receiver's file is valid.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from mcsa.audio.format import AudioFormat
from mcsa.audio.receiver import Receiver, receive_files
from mcsa.audio.sender import LocalSender, send_file
from mcsa.audio.wav import WavWriter, tone, write_wav
from mcsa.errors import Refused, Rejected
from mcsa.shell.local_frames import connect_frames

PORT = 5004  # RFC 3551 section 8, the default of the profile
MISUSED = 2
_stopped = False


def main(argv: list[str] | None = None) -> None:
    """See the module."""
    arguments = _parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        arguments.run(arguments)
    except Refused as refused:
        print(f"audio: {refused.sentence}", file=sys.stderr)
        sys.exit(MISUSED)


def _stop(_number: int, _frame: Any) -> None:
    global _stopped  # noqa: PLW0603 - a signal handler has nobody else to tell
    _stopped = True


def _send(arguments: argparse.Namespace) -> None:
    with LocalSender(arguments.socket, arguments.port) as to:
        stream = send_file(arguments.file, to, os.urandom, arguments.seconds_real_time, lambda: _stopped)
    report = {"ssrc": f"{stream.ssrc:08x}", "format": str(stream.format), "sent": stream.packets}
    print(json.dumps(report) if arguments.json else "{sent} packets sent, SSRC {ssrc}, {format}".format(**report))


def _receive(arguments: argparse.Namespace) -> None:
    WavWriter(arguments.file, arguments.format).close()  # where it can't be written, that is said at once
    receiver = Receiver(arguments.file, arguments.format)
    with connect_frames(arguments.socket) as connection:
        print("listening", file=sys.stderr, flush=True)
        receive_files(connection, receiver, arguments.port, lambda: _stopped)
    report = receiver.report()
    print(json.dumps(report) if arguments.json else _as_text(report))


def _tone(arguments: argparse.Namespace) -> None:
    write_wav(arguments.file, arguments.format, tone(arguments.format, arguments.seconds))


def _as_text(report: dict[str, Any]) -> str:
    lines = []
    for stream in report["streams"]:
        counts = "{received} packets, {lost} lost, {duplicates} twice, {reordered} out of order".format(**stream)
        lines.append(f"sender {stream['sender_id']}, SSRC {stream['ssrc']}: {counts}")
        end = "" if stream["ended"] else "; the end wasn't heard"
        lines.append("  {file}: {seconds:g} s of {format}".format(**stream) + end)
        lines += [f"  silence at {gap['at']:g} s for {gap['for']:g} s" for gap in stream["gaps"]]
    lines += [f"{count} dropped: {cause}" for cause, count in report["rejected"].items()]
    return "\n".join(lines or ["Nothing was heard."])


def _format(text: str) -> AudioFormat:
    try:
        return AudioFormat.parse(text)
    except Rejected:
        raise argparse.ArgumentTypeError(f"{text} isn't a format such as L16/48000/1") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mcsa.audio", description="WAV files as RTP in a group.")
    commands = parser.add_subparsers(required=True)
    send = commands.add_parser("send", help="a 16-bit WAV file into the group")
    send.set_defaults(run=_send)
    send.add_argument("--port", type=int, default=PORT, help="inner UDP port (default: %(default)s)")
    send.add_argument("--seconds-real-time", type=float, default=5.0, help="then ten times as fast (default: 5)")
    receive = commands.add_parser("receive", help="until all streams have ended; start it before the sender")
    receive.set_defaults(run=_receive)
    receive.add_argument("--port", type=int, help="inner UDP port (default: all)")
    for each in (send, receive):
        each.add_argument("--socket", type=Path, required=True, help="the group's local socket")
        each.add_argument("--json", action="store_true", help="counts as one line of JSON")
    made = commands.add_parser("tone", help="makes a file to send, the same bytes each time")
    made.set_defaults(run=_tone)
    made.add_argument("--seconds", type=float, default=5.0, help="(default: %(default)s)")
    for each in (receive, made):
        each.add_argument("--format", type=_format, default="L16/48000/1", help="unless told (default: %(default)s)")
    for each in (send, receive, made):
        each.add_argument("file", type=Path)
    return parser


if __name__ == "__main__":
    main()
