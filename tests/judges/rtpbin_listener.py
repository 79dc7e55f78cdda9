"""GStreamer's rtpbin as a listener, for the system's own Python: joins a group, receives L16, says what it thinks.

`/usr/bin/python3 rtpbin_listener.py ADDRESS PORT CLOCK-RATE CHANNELS PAYLOAD-TYPE FILE`: writes "listening", records
until two seconds were silent, then writes one JSON object: the jitter buffer's and the source's statistics.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import gi  # type: ignore[import-not-found]  # python3-gi of Debian

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # type: ignore[import-not-found] # noqa: E402

SILENT_FOR = 2_000  # milliseconds


def main(address: str, port: str, clock_rate: str, channels: str, payload_type: str, path: str) -> None:
    """See the module."""
    Gst.init(None)
    caps = f"application/x-rtp,media=audio,encoding-name=L16,clock-rate={clock_rate},channels={channels}"
    pipeline = Gst.parse_launch(
        f'udpsrc name=in address={address} port={port} buffer-size=4000000 caps="{caps},payload={payload_type}" '
        "! bin.recv_rtp_sink_0 rtpbin name=bin latency=200 do-lost=true "
        f"rtpL16depay name=out ! audioconvert ! audio/x-raw,format=S16LE ! filesink location={path} sync=false"
    )
    buffers: list[Any] = []
    seen = {"packets": 0, "before": -1}
    pipeline.get_by_name("bin").connect(
        "new-jitterbuffer", lambda _bin, buffer, _session, _ssrc: buffers.append(buffer)
    )
    sink = pipeline.get_by_name("out").get_static_pad("sink")
    pipeline.get_by_name("bin").connect(
        "pad-added", lambda _bin, pad: pad.link(sink) if pad.get_name().startswith("recv_rtp_src") else None
    )

    def count(_pad: Any, _probe: Any) -> Any:
        seen["packets"] += 1
        return Gst.PadProbeReturn.OK

    pipeline.get_by_name("in").get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, count)
    loop = GLib.MainLoop()

    def look() -> bool:
        if seen["packets"] and seen["packets"] == seen["before"]:
            loop.quit()
            return False
        seen["before"] = seen["packets"]
        return True

    pipeline.set_state(Gst.State.PLAYING)
    pipeline.get_state(5 * Gst.SECOND)
    print("listening", flush=True)
    GLib.timeout_add(SILENT_FOR, look)
    loop.run()
    told = _fields(buffers[0].get_property("stats"))
    for source in pipeline.get_by_name("bin").emit("get-internal-session", 0).get_property("sources"):
        fields = _fields(source.get_property("stats"))
        if fields.get("is-sender"):
            told["source"] = fields
    pipeline.set_state(Gst.State.NULL)
    print(json.dumps({**told, "arrived": seen["packets"]}), flush=True)


def _fields(structure: Any) -> dict[str, Any]:
    fields = {}
    for index in range(structure.n_fields()):
        name = structure.nth_field_name(index)
        value = structure.get_value(name)
        if isinstance(value, int | float | str | bool):
            fields[name] = value
    return fields


if __name__ == "__main__":
    main(*sys.argv[1:])
