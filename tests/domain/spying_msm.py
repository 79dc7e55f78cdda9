"""An MSM that writes every group key it gets to a file, for tests that look for keys where none may be:
`MCSA_TEST_KEYS=FILE python -m tests.domain.spying_msm --config FILE`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mcsa.shell.run import run_service
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.config import MsmSettings
from services.msm.events import InstallEpoch
from services.msm.path import GroupPath
from services.msm.service import MsmService


class SpyingPath(GroupPath):
    def carry_out(self, effect: Any, now: float) -> list[Any]:
        if isinstance(effect, InstallEpoch):
            line = {"group": effect.group_id.hex(), "epoch": effect.epoch, "key": effect.key.reveal().hex()}
            with Path(os.environ["MCSA_TEST_KEYS"]).open("a") as file:
                file.write(json.dumps(line) + "\n")
        return super().carry_out(effect, now)


class SpyingMsmService(MsmService):
    def make_path(self, domain: str, group: GroupDescription) -> GroupPath:
        return SpyingPath(domain, group)


if __name__ == "__main__":
    run_service("msm", MsmSettings, SpyingMsmService)
