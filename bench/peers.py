"""What others make of the same network: UFTP and GStreamer's srtpenc, both AES-256-GCM. Null where not installed."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from bench.packets import middle, rates
from bench.two_hosts import Link, cores, two_hosts
from bench.ways import ESP

_FILE_SIZE = 100 << 20  # bytes that UFTP carries
_BLOCK = 1_400  # bytes of a file in each of its packets: `-b` counts its headers, too
_UFTP_HEADERS = 28
_BUFFER = 8 << 20  # bytes, as our sockets have
_BUFFERS = 40_000  # packets that GStreamer sends
_SRTP_PAYLOAD = 1_300  # bytes; libsrtp refuses packets much longer
_STARTS_WITHIN = 1.0  # seconds


FIGURES = {
    "kpps_1400": "ours, opened, batches (thousands a second)",
    "sent_kpps_1400": "ours, sealed and sent",
    "uftp_kpps_1400": "of a file that UFTP carries, its hand-shake left out, in pieces of 1,400 bytes",
    "gstreamer_kpps_1300": "sent by a pipeline of srtpenc and udpsink",
}
ROUNDS = 3


def add_options(parser: argparse.ArgumentParser) -> None:
    """How often it measures."""
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="the median counts (default: %(default)s)")


def run(rounds: int = ROUNDS) -> dict[str, float | str | None]:
    """All figures, with the kind of network they were had on."""
    with two_hosts() as link:
        measured = [_round(link) for _ in range(rounds)]
        kind = link.kind
    return {name: middle([each[name] for each in measured]) for name in FIGURES} | {"network": kind}


def _round(link: Link) -> dict[str, float | None]:
    sent, opened = rates(link, 1_400, ESP)
    return {
        "kpps_1400": opened,
        "sent_kpps_1400": sent,
        "uftp_kpps_1400": uftp_kpps(link),
        "gstreamer_kpps_1300": gstreamer_kpps(link),
    }


def uftp_kpps(link: Link) -> float | None:
    """Thousands of 1,400-byte blocks a second of a file that UFTP carries; None where there is no UFTP."""
    if shutil.which("uftp") is None or shutil.which("uftpd") is None:
        return None
    sender, receiver, group = link.laboratory["sender"], link.laboratory["receiver"], link.laboratory.plan.group(3)
    private = group.rsplit(".", 1)[0] + ".x"
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "file", Path(folder) / "received"
        source.write_bytes(bytes(_FILE_SIZE))
        target.mkdir()
        options = ["-B", str(_BUFFER), "-M", group]
        daemon = receiver.popen(
            [*_pinned(cores()[-1]), "uftpd", "-d", "-D", str(target), "-I", receiver.interface, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(_STARTS_WITHIN)
            sends = ["uftp", "-R", "-1", "-Y", "aes256-gcm", "-h", "sha256", "-b", str(_BLOCK + _UFTP_HEADERS)]
            sends += ["-I", sender.interface, "-P", private]
            done = subprocess.run(
                sender.command([*_pinned(cores()[0]), *sends, "-H", receiver.address, *options, str(source)]),
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            )
        finally:
            daemon.kill()
            daemon.wait()
    return blocks_of(done.stderr)


def blocks_of(said: str) -> float:
    """Thousands of blocks a second, from what `uftp` says at the end. `ValueError` where it didn't get there."""
    found = re.search(r"Overall throughput: ([\d.]+) KB/s", said)
    if found is None:
        raise ValueError(f"uftp has not said its throughput: {said[-200:]}")
    return round(float(found[1]) * 1_024 / _BLOCK / 1_000, 1)


def gstreamer_kpps(link: Link) -> float | None:
    """Thousands of packets a second that a pipeline of srtpenc and udpsink sends; None where there is no srtpenc."""
    asked = ["gst-inspect-1.0", "--exists", "srtpenc"]
    if shutil.which(asked[0]) is None or subprocess.run(asked, check=False).returncode:
        return None
    return round(_BUFFERS / max(1e-3, _pipeline(link, _BUFFERS) - _pipeline(link, 1)) / 1_000, 1)


def _pipeline(link: Link, buffers: int) -> float:
    """Seconds from start to end of a pipeline that sends so many packets."""
    sender = link.laboratory["sender"]
    source = f"fakesrc num-buffers={buffers} sizetype=fixed sizemax={_SRTP_PAYLOAD} filltype=zero format=time"
    cipher = "rtp-cipher=aes-256-gcm rtp-auth=null rtcp-cipher=aes-256-gcm rtcp-auth=null"
    sink = f"udpsink host={link.laboratory.plan.group(3)} port=5004 multicast-iface={sender.interface} sync=false"
    line = f"{source} ! application/x-bench ! rtpgstpay mtu=65000 ! srtpenc key={'00' * 44} {cipher} ! {sink}"
    started_at = time.perf_counter()
    command = sender.command([*_pinned(cores()[0]), "gst-launch-1.0", "-q", *line.split()])
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return time.perf_counter() - started_at


def _pinned(core: int) -> list[str]:
    return ["taskset", "-c", str(core)]
