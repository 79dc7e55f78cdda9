"""What an operator is told."""

from mcsa.shell.log import LONGEST
from mcsa.v1.authorizer_pb2 import Beacon
from services.authorizer import alarms


def test_no_sentence_is_cut_in_the_log() -> None:
    beacon = Beacon(epoch=2**63, update_number=2**63)
    told = [
        alarms.rolled_back(bytes(16), beacon),
        alarms.group_log_short("group-" + 32 * "f"),
        alarms.conference_log_short("conference-" + 32 * "f"),
        alarms.conference_log_gone("group-" + 32 * "f"),
        alarms.outgrown(bytes(16), 10**9, "gkmp"),
        alarms.fenced("group-" + 32 * "f"),
    ]
    assert all(len(alarm.sentence) <= LONGEST for alarm in told)
