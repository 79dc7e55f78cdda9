"""`python -m services.msm --config FILE`."""

from mcsa.shell.run import run_service
from services.msm.config import MsmSettings
from services.msm.service import MsmService

if __name__ == "__main__":
    run_service("msm", MsmSettings, MsmService)
