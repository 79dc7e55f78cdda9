"""Labels of signed statements that more than one service makes or verifies: what was signed under one label is never
taken for another."""

EVICTION_LABEL = "mcsa eviction v1"
RELOCATION_LABEL = "mcsa relocation v1"
COUNTERSIGNATURE_LABEL = "mcsa countersignature v1"
DISTRIBUTION_RIGHT_LABEL = "mcsa distribution right v1"
