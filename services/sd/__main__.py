"""`python -m services.sd --config FILE`."""

from mcsa.shell.run import run_service
from services.sd.config import SdSettings
from services.sd.service import SdService

if __name__ == "__main__":
    run_service("sd", SdSettings, SdService)
