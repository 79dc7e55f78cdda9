"""Whether a process holds some bytes anywhere in its memory. For who may look: root of the machine, on Linux."""

from __future__ import annotations

from pathlib import Path

PIECE = 16 << 20  # bytes read at once


def holds(process: int, wanted: bytes) -> bool | None:
    """True or False, or None where this process may not look."""
    try:
        regions = _writable(Path(f"/proc/{process}/maps").read_text())
        with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
            return any(_region_holds(memory, start, end, wanted) for start, end in regions)
    except OSError:
        return None


def _writable(maps: str) -> list[tuple[int, int]]:
    """Where data is, from the lines of /proc/PID/maps."""
    regions = []
    for line in maps.splitlines():
        place, permissions, *_ = line.split()
        start, end = (int(text, 16) for text in place.split("-"))
        if permissions.startswith("rw"):
            regions.append((start, end))
    return regions


def _region_holds(memory: object, start: int, end: int, wanted: bytes) -> bool:
    overlap = len(wanted) - 1
    while start < end:
        try:
            memory.seek(start)  # type: ignore[attr-defined]
            piece: bytes = memory.read(min(PIECE, end - start))  # type: ignore[attr-defined]
        except OSError:  # a region that went meanwhile, or can't be read
            return False
        if wanted in piece:
            return True
        start += max(len(piece) - overlap, 1) if len(piece) > overlap else end - start
    return False
