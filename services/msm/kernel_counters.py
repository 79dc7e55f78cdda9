"""What the kernel's IPsec counted, by the names that the user-space path has for the same. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mcsa.xfrm.state import StateReport
from services.msm.kernel_policies import Reqids

HOST = "host."
"""What comes before names that are of the whole network namespace: the kernel can't say of which group those were."""

_OF_HOST = {  # Documentation/networking/xfrm_proc.rst: what it says there
    "XfrmInNoStates": "unknown-spi",
    "XfrmInTmplMismatch": "refused",  # plaintext; or opened by this host's own state, as what comes back to it is
    "XfrmInStateMismatch": "source",  # opened, and from another address than its sender's
    "XfrmInStateProtoError": "integrity",
    "XfrmInStateSeqError": "replay",
    "XfrmOutPolBlock": "unsent.paused",
    "XfrmOutNoStates": "unsent.no-state",
}


def count_states(reports: Iterable[StateReport], reqids: Reqids) -> Counter[str]:
    """Of one group's states."""
    counted: Counter[str] = Counter()
    for report in reports:
        if report.reqid == reqids.receiving:
            counted["opened"] += report.packets
            counted["replay"] += report.too_old + report.replayed
            counted["integrity"] += report.forged
        elif report.reqid == reqids.sending:
            counted["sent"] += report.packets
    return +counted


def count_fragments(ipv4: str, ipv6: str) -> Counter[str]:
    """That this host made of packets that were too long, to whomever: of the texts of /proc/net/snmp (a line of names,
    a line of numbers) and /proc/net/snmp6 (a name and a number on each line)."""
    lines = [line.split() for line in ipv4.splitlines() if line.startswith("Ip:")]
    made = dict(zip(*lines, strict=True)) if len(lines) == 2 else {}
    made |= dict(line.split() for line in ipv6.splitlines() if line.startswith("Ip6FragCreates"))
    return +Counter({f"{HOST}fragments": int(made.get("FragCreates", 0)) + int(made.get("Ip6FragCreates", 0))})


def count_of_host(statistics: str) -> Counter[str]:
    """Of the text of /proc/net/xfrm_stat: a name and a number on each line."""
    counted: Counter[str] = Counter()
    for line in statistics.splitlines():
        name, _, number = line.partition(" ")
        if name in _OF_HOST:
            counted[HOST + _OF_HOST[name]] += int(number)
    return +counted
