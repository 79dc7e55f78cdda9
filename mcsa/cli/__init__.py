"""The `mcsa` command.

Exit codes: 0 done; 1 refused, or not as it should be (a sentence on standard error says why and what mends it);
2 wrong usage; 130 interrupted.
"""
