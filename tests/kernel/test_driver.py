from __future__ import annotations
from pathlib import Path
from services.msm.drivers import DriverSettings, driver_named

def test_the_kernel_has_what_the_driver_needs(tmp_path: Path) -> None:
    driver_named("xfrm")(DriverSettings("10.0.0.1", tmp_path)).close()
