"""`python -m mcsa.cli`."""

from mcsa.cli.main import main

main()
