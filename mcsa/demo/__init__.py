"""`mcsa demo`: the paper's section 3.4 as real processes on real packets, told step by step."""
