"""Whether a record is whole: what existed, as who ended it signed, against what is here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from mcsa.record.messages import Stream
from mcsa.v1.conference_pb2 import StreamPosition


@dataclass(frozen=True, slots=True)
class Lacking:
    """Sentences. What is excused was lost at the signed word of whose it was, or there is nobody to say it existed."""

    excused: tuple[str, ...]
    unexcused: tuple[str, ...]


class Ends:
    """How the record ends, and how far the streams went then: the Coordinator's Closing, the writer's Departure."""

    def __init__(self) -> None:
        self.by = ""
        self._positions: dict[bytes, int] = {}

    def end(self, by: str, positions: Iterable[StreamPosition] = ()) -> None:
        """One of the ends; where there are several, all positions hold."""
        self.by = by
        for position in positions:
            known = self._positions.get(position.process_id, 0)
            self._positions[position.process_id] = max(known, position.sequence)

    def look_for_lacking(self, streams: Mapping[bytes, Stream], ejected: Collection[str]) -> Lacking:
        """After the last entry. Streams of ejected users don't count: an honest writer stopped at the ejection, which
        may have reached it before their last messages did."""
        excused = [
            f"{stream.lacks} messages of {stream.identity.id}, which it could not repeat any more"
            for stream in streams.values()
            if stream.lacks
        ]
        unexcused = [
            f"messages 1 to {stream.begins_at - 1} of {stream.identity.id}"
            for stream in streams.values()
            if stream.begins_at > 1
        ]
        if self.by == "ejection":
            excused.append("nobody told the writer, who was thrown out, how far the streams went")
        elif not self.by:
            unexcused.append("the end: neither the Coordinator's closing nor the writer's departure is here")
        for process_id, sequence in self._positions.items():
            stream = streams.get(process_id)
            if stream is None and sequence:  # 0: somebody was heard, and nothing of it was whole yet
                unexcused.append(f"the {sequence} messages of process {process_id.hex()}")
            elif stream is not None and stream.last < sequence and str(stream.identity.id) not in ejected:
                first = stream.last + 1
                unexcused.append(f"messages {first} to {sequence} of {stream.identity.id}")
        return Lacking(tuple(excused), tuple(unexcused))
