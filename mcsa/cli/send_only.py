"""`mcsa send-only`: a user sends to a group without joining it. The CSM does it: the command returns."""

from __future__ import annotations

from typing import Annotated

import typer

from mcsa.cli.showing import HostOption, JsonOption, PassphraseOption, UserOption, out, run, show_json, show_pairs
from mcsa.sdk.conference import SendOnly, connect


def send_only(
    which: Annotated[str, typer.Argument(help="Title, or the beginning of the id, of an announced session.")],
    group: Annotated[str, typer.Option(help="Name of the group.")] = "audio",
    user: UserOption = None,
    host: HostOption = None,
    passphrase: PassphraseOption = "",
    end: Annotated[bool, typer.Option("--end", help="Send no more.")] = False,
    json: JsonOption = False,
) -> None:
    """Send to a group without being a member of it: nothing is heard, no group key comes to this host.

    Goes on until --end. In a closed conference only who is on the Coordinator's list of senders may.
    """

    async def begin() -> SendOnly:
        async with connect(host=host, user=user, passphrase=passphrase) as me:
            return await me.send_only(which, group)

    async def stop() -> None:
        async with connect(host=host, user=user, passphrase=passphrase) as me:
            await me.end_send_only(which, group)

    if end:
        run(stop())
        out.print(f"nothing more is sent to {group} from here", markup=False)
        return
    sending = run(begin())
    address, port = sending.group.address, sending.group.port
    if json:
        show_json({"socket": str(sending.socket), "sender_id": sending.sender_id, "address": address, "port": port})
        return
    rows = [
        (f"group {group}", f"{address}:{port}"),
        ("sender ID", sending.sender_id),
        ("socket", sending.socket),
        ("for example", f"python -m mcsa.audio send --socket {sending.socket} --port {port} FILE.wav"),
    ]
    show_pairs(rows)
