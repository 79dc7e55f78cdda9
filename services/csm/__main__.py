"""`python -m services.csm --config FILE`."""

from mcsa.shell.run import run_service
from services.csm.config import CsmSettings
from services.csm.service import CsmService

if __name__ == "__main__":
    run_service("csm", CsmSettings, CsmService)
