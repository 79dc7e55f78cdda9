"""What an operator must look at, each in a sentence that says what to do."""

from __future__ import annotations

from mcsa.v1.authorizer_pb2 import Beacon
from services.authorizer.events import Alarm

_DISKS = "JetStream has lost or changed what it acknowledged; look after the broker's disks."
_SHORT = f"its log is shorter than it was, or can't be read on: {_DISKS}"
_ANEW = "The group begins anew, its members register again"


def rolled_back(group_id: bytes, beacon: Beacon) -> Alarm:
    """A member shows what this Authorizer said, and the log doesn't know."""
    sentence = (
        f"a member shows that this group was in epoch {beacon.epoch}, update {beacon.update_number}; its log does not "
        f"know that: {_DISKS} {_ANEW}; ejections since then may be forgotten: eject again."
    )
    return Alarm("rolled-back", group_id.hex(), sentence)


def group_log_short(log: str) -> Alarm:
    """A group's log lost its end, or can't be read on."""
    return Alarm("group-log", log, f"{_SHORT} {_ANEW}.")


def conference_log_short(log: str) -> Alarm:
    """A conference's."""
    sentence = (
        f"{_SHORT} Ejections since then may be forgotten: eject again, or convene anew where nothing is left of it."
    )
    return Alarm("conference-log", log, sentence)


def conference_log_gone(group_log: str) -> Alarm:
    """A group's log is there, its conference's isn't."""
    sentence = (
        f"the log of its conference is gone: {_DISKS} Or the conference ended at the very moment when this Authorizer "
        "was stopped. Convene anew."
    )
    return Alarm("conference-log", group_log, sentence)


def outgrown(group_id: bytes, size: int, gkm: str) -> Alarm:
    """A change of a group is too long to be stored and told."""
    sentence = (
        f"a change takes {size} bytes, more than one message of the broker carries. {_ANEW}. '{gkm}' is not for so "
        "many; 'lkh' is."
    )
    return Alarm("outgrown", group_id.hex(), sentence)


def fenced(log: str) -> Alarm:
    """A log isn't what this process thought."""
    sentence = (
        "its log goes on without this process: another process of this Authorizer has taken over, or JetStream went "
        "back. Nothing more is decided here before the log was read again; are two running, and is that meant?"
    )
    return Alarm("fenced", log, sentence)
