"""`mcsa doctor`: what is wrong with this machine for secure multicast, and the command that mends it."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated

import typer

from mcsa.cli.checks import FAIL, Finding, check_all
from mcsa.cli.facts import ALL_GROUPS, read_facts
from mcsa.cli.showing import JsonOption, out, show_json, show_table

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(
    interface: Annotated[str, typer.Option(help="Interface that is to carry the multicast; the default route's.")] = "",
    groups: Annotated[
        str, typer.Option(help="Prefix of the groups of its network, where there are several: 239.193.0.0/16.")
    ] = ALL_GROUPS,
    broker: Annotated[str, typer.Option(help="URL of a broker that should answer, nats://HOST:PORT.")] = "",
    querier: Annotated[
        float, typer.Option(min=0, help="Seconds to listen for IGMP and MLD queriers; 130 to be sure. 0: not.")
    ] = 0.0,
    json: JsonOption = False,
) -> None:
    """Check multicast route, membership limits, buffers, privileges, clock and broker. Exit code 1 where one fails."""
    check_groups(groups)
    findings = check_all(read_facts(interface, broker, querier, groups))
    if json:
        show_json([{"name": f.name, "state": f.state, "what": f.what, "mend": f.mend} for f in findings])
    else:
        show_table(("", "check", "what"), [(f.state, f.name, f.what) for f in findings], "")
        _tell_what_mends(findings)
    if any(finding.state == FAIL for finding in findings):
        raise typer.Exit(1)


def check_groups(groups: str) -> None:
    """`BadParameter` where it is no prefix of multicast addresses."""
    try:
        is_multicast = ip_network(groups).is_multicast
    except ValueError:
        is_multicast = False
    if not is_multicast:
        raise typer.BadParameter(f"{groups} is no prefix of multicast addresses, as 239.193.0.0/16 is one")


def _tell_what_mends(findings: list[Finding]) -> None:
    for finding in findings:
        if finding.mend:
            out.print(f"\n{finding.name}:", style=_COLOURS[finding.state])
            out.print(f"  {finding.mend}", markup=False)
