"""The door to nftables: rules that keep a group's plaintext off every interface but one.

Whatever goes to a protected address by another interface, in either direction, is dropped, but for what is meant to be
there: ESP (IP protocol 50), ESP in UDP port 4500, and the membership reports and queries (IGMP, MLD) that name a group.
An application that picks the physical interface sends nothing, one that listens hears nothing that wasn't opened here,
and a host that routes multicast carries nothing on from the TUN interface.

The rules are a table of our own, named after the interface, so that nobody else's are touched. A killed process leaves
it, and with it the groups closed: its interface and routes have gone, and applications that go on talking would be
heard in the clear. The next one takes its groups over, in one step, and they stay closed until it ends.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from mcsa.addresses import check_text, is_canonical
from mcsa.errors import Refused
from mcsa.shell.programs import run_program

CODE = "nftables"
PREFIX = "mcsa_"
_BEFORE_ALL_ELSE = -310  # priority: before "raw", so that no rule of others accepts or changes it first

_TABLE = """
add table inet {table}
delete table inet {table}
table inet {table} {{
  comment "MCSA: plaintext of secured groups stays on {interface}"
  set groups4 {{ type ipv4_addr; }}
  set groups6 {{ type ipv6_addr; }}
  counter incoming {{ }}
  counter outgoing {{ }}
  chain secured {{
    meta l4proto {{ esp, igmp }} accept
    icmpv6 type {{ mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report }} accept
    udp dport 4500 @th,64,32 != 0 accept
  }}
  chain in_plain {{
    jump secured
    counter name incoming drop
  }}
  chain out_plain {{
    jump secured
    counter name outgoing drop
  }}
  chain in {{
    type filter hook prerouting priority {priority}; policy accept;
    iifname "{interface}" accept
    ip daddr @groups4 goto in_plain
    ip6 daddr @groups6 goto in_plain
  }}
  chain out {{
    type filter hook output priority {priority}; policy accept;
    oifname "{interface}" accept
    ip daddr @groups4 goto out_plain
    ip6 daddr @groups6 goto out_plain
  }}
  chain through {{
    type filter hook forward priority {priority}; policy accept;
    oifname "{interface}" accept
    ip daddr @groups4 goto out_plain
    ip6 daddr @groups6 goto out_plain
  }}
}}
"""


def table_name(interface: str) -> str:
    """The table of an interface: what nft takes as a name, and no two interfaces share."""
    return PREFIX + "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in interface)


class GroupFirewall:
    """Rules for the groups of one TUN interface. `Refused`, with the way out, where they can't be had: then no group
    may be opened on that interface."""

    def __init__(self, interface: str) -> None:
        self.table = table_name(interface)
        self._table = _TABLE.format(table=self.table, interface=interface, priority=_BEFORE_ALL_ELSE)
        left = leftovers()
        others = "".join(f"delete table inet {name}\n" for name in left if name != self.table)
        groups = set[str]().union(*map(_protected, {self.table, *left}))
        self._nft(others + self._table + self._elements(groups))  # in one step: nothing passes meanwhile

    def protect(self, groups: Collection[str]) -> None:
        """From now on, until `close`. An address that is protected already stays so. `Refused` where one is none."""
        self._nft(self._checked(groups))

    def _checked(self, groups: Collection[str]) -> str:
        for group in groups:
            check_text(group, CODE)
        return self._elements(groups)

    def _elements(self, groups: Collection[str]) -> str:
        return "".join(f"add element inet {self.table} groups{6 if ':' in g else 4} {{ {g} }}\n" for g in groups)

    def restore(self, groups: Collection[str]) -> bool:
        """Puts the rules there again where they are not, because somebody flushed the host's rules, or took a part of
        them; says whether it had to. `Refused`, and then what was there still is."""
        with suppress(Refused):
            if self.protected() >= set(groups):
                return False
        self._nft(self._table + self._checked(groups))  # in one step: those that are there still are not opened
        return True

    def protected(self) -> set[str]:
        """The addresses that the kernel has rules for now; `Refused` where somebody has removed the table."""
        return _listed(self.table)

    def dropped(self) -> dict[str, int]:
        """Packets dropped so far, "incoming" and "outgoing"."""
        listed = json.loads(run_program(["nft", "-j", "list", "counters", "table", "inet", self.table], CODE))
        counters = [item["counter"] for item in listed["nftables"] if "counter" in item]
        return {counter["name"]: counter["packets"] for counter in counters}

    def close(self, staying: Collection[str] = ()) -> None:
        """Removes the rules, but for addresses that are `staying`: the next one takes those over. May be called
        twice."""
        if staying:
            self._nft(self._table + self._elements(staying))
        else:
            _remove(self.table)

    def _nft(self, script: str) -> None:
        try:
            run_program(["nft", "-f", "-"], CODE, script)
        except Refused as refused:
            sentence = (
                f"{refused.sentence} Without these rules plaintext could pass beside the TUN interface, so it isn't "
                'opened. Give this process CAP_NET_ADMIN and a kernel with nf_tables, or choose driver = "relay".'
            )
            raise Refused(CODE, refused.rule, sentence) from None


def leftovers() -> list[str]:
    """The tables whose interface is no more, so whose process was killed."""
    interfaces = [
        line.partition(":")[0].strip() for line in Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    ]
    present = {table_name(name) for name in interfaces}
    return [name for name in _tables() if name not in present]


def _tables() -> list[str]:
    listed = json.loads(run_program(["nft", "-j", "list", "tables"], CODE))
    tables = [item["table"] for item in listed["nftables"] if "table" in item]
    return [each["name"] for each in tables if each["family"] == "inet" and each["name"].startswith(PREFIX)]


def _listed(table: str) -> set[str]:
    found: set[str] = set()
    for name in ("groups4", "groups6"):
        listed = json.loads(run_program(["nft", "-j", "list", "set", "inet", table, name], CODE))
        for item in listed["nftables"]:
            found.update(item.get("set", {}).get("elem", ()))
    return found


def _protected(table: str) -> set[str]:
    """Of a table that may not be there, or be another version's."""
    with suppress(Refused):
        return set(filter(is_canonical, _listed(table)))
    return set()


def _remove(table: str) -> None:
    """Adding first makes it no error where there is none."""
    run_program(["nft", "-f", "-"], CODE, f"add table inet {table}\ndelete table inet {table}\n")
