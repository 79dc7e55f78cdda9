"""Logs that survive: what an Authorizer decided, kept by a broker that is believed nothing (design, section 6).

A log is a sequence of records, one log for each group or conference. An entry is what was decided; a snapshot is all
that the entries before it amount to. This package turns plaintexts into records and back; `mcsa.shell.stream` stores
records, `mcsa.shell.storage_key` keeps the key. Against a hostile or forgetful store:

- a record that was altered, moved to another place or another log, or comes after a gap, doesn't open;
- a log that lost its end, or was replaced by an older copy of itself, can't be told from one that never went further,
  except as far as the storage key has moved on and `Marks` remember. What must stay safe even so (no epoch, no sender
  ID twice) is safe by other means;
- with the disks of today, the records of before the last snapshot can't be opened: the storage key ratchets.

**The order of steps**, so that a crash between any two of them loses nothing that was acknowledged:

1. The parts of a snapshot are sealed under the *next* generation and appended, entries between them where some come up.
   The key file has the old generation, from which the next derives: all records open. A crash here leaves a snapshot
   without its last part, which doesn't count; all it would have replaced is still there.
2. The last part was acknowledged. The key file is replaced by one of the least generation that any log needs
   (`Marks.generation`), and the old one overwritten. A crash before it: the next start finds a complete snapshot of a
   later generation and does this step.
3. What is before the snapshot's first part is purged. A crash before it: the next start finds records of an erased
   generation, skips them, begins with the snapshot, and purges again.

There is one storage key for all logs, so that a replica needs to be given no more than the first one: each log's
snapshot goes to the generation after the key file's, and the key moves on when the last log has followed. A new log
starts at that next generation and holds up nothing. Before the key moves on, `Marks` must know every log that there is.
Replicas that create logs at the same time as others move the key on need an order between the two: have both recorded
in one log, which the store's condition on appending then puts in order.

A log that begins: first its mark is set (`Replayed.mark` of an empty one), so that the key stays where it can be read,
then its first record is appended. One that has ended: first its mark is removed from the key file, then it is purged.
"""

from mcsa.durable_log.chain import Chain, Opened
from mcsa.durable_log.marks import Mark, Marks
from mcsa.durable_log.ratchet import StorageKeys
from mcsa.durable_log.record import PART_SIZE, check_log_name
from mcsa.durable_log.replay import Replay, Replayed
from mcsa.durable_log.snapshot import Snapshot
from mcsa.durable_log.store import Conflict, Stored

__all__ = [
    "PART_SIZE",
    "Chain",
    "Conflict",
    "Mark",
    "Marks",
    "Opened",
    "Replay",
    "Replayed",
    "Snapshot",
    "StorageKeys",
    "Stored",
    "check_log_name",
]
