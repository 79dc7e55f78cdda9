"""These tests run in the virtual machine only, by `make test-kernel`: the kernels that others run have no ESP."""

from __future__ import annotations

import os

collect_ignore_glob = [] if "MCSA_KERNEL_TESTS" in os.environ else ["test_*.py"]
