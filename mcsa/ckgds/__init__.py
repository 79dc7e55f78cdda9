"""Conference key generation and distribution schemes: one file each; `run.py` is what all of them run inside."""

from mcsa.ckgds.interface import Party, Payloads, Promises, Scheme, scheme_named, schemes

__all__ = ["Party", "Payloads", "Promises", "Scheme", "scheme_named", "schemes"]
