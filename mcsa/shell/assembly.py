"""What every service is assembled from: credentials, trust, telemetry, a place on the bus."""

from __future__ import annotations

from mcsa.key_files import load_anchors, load_credentials, load_revocation_list
from mcsa.shell.bus import Bus
from mcsa.shell.nkeys import load_nkey
from mcsa.shell.run import crash
from mcsa.shell.settings import ServiceSettings
from mcsa.shell.telemetry import set_up_telemetry
from mcsa.trust import Trust


class Assembly:
    """Loaded from the settings; `Refused` says which file is wrong and what mends it."""

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        self._settings = settings
        self.credentials = load_credentials(settings.credentials, settings.passphrase.encode() or None)
        self.trust = Trust(settings.domain, load_anchors(settings.anchors))
        if settings.revocations is not None:
            self.trust.revoke(load_revocation_list(settings.revocations))
        self.telemetry = set_up_telemetry(service, self.credentials.id.name)

    def bus(self, name: str) -> Bus:
        """This identity's place on the bus, not yet connected."""
        return Bus(self._settings.bus, name, load_nkey(self._settings.nkey), on_crash=crash)

    def close(self) -> None:
        """Sends what spans are left."""
        self.telemetry.close()
