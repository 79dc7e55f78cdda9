"""`python -m services.authorizer --config FILE`."""

from mcsa.shell.run import run_service
from services.authorizer.config import AuthorizerSettings
from services.authorizer.service import AuthorizerService

if __name__ == "__main__":
    run_service("authorizer", AuthorizerSettings, AuthorizerService)
